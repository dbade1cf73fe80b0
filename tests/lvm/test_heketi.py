"""A brick made by Heketi's own command lines, and one of ours: they can't be told apart but by tags and ids."""

from __future__ import annotations

import json
import re

import pytest

from csi.bricks import lvmpaths
from csi.bricks.lvm import LvmBackend
from csi.core import naming
from csi.core.model import DeviceId, PlacedBrick
from tests.contract.bricks.hosts import a_host
from tests.lab import Lab, LabHost
from tests.lvm.bricks import INSTANCE, SIZE, placed

pytestmark = pytest.mark.lab

HEKETI = DeviceId("0123456789abcdef0123456789abcdef")

# heketi.md 4.2 and 4.4, with $1 the device, $2 its id, $3 the brick's id, $4 the pool's id.
_BY_HEKETI = """
set -e
m=/var/lib/heketi/mounts/vg_$2/brick_$3
d=/dev/mapper/vg_$2-brick_$3
lvm pvcreate -qq --metadatasize=128M --dataalignment=256K "$1"
lvm vgcreate -qq --physicalextentsize=4M --autobackup=n vg_$2 $1
mkdir -p $m
lvm lvcreate -qq --autobackup=n --poolmetadatasize 8192K --chunksize 256K --size 1048576K --thin vg_$2/tp_$4 \
    --virtualsize 1048576K --name brick_$3
mkfs.xfs -i size=512 -n size=8192 $d >/dev/null
awk "BEGIN {print \\"$d $m xfs rw,inode64,noatime,nouuid 1 2\\" >> \\"/etc/fstab\\"}"
mount -o rw,inode64,noatime,nouuid $d $m
mkdir $m/brick
chown :2000 $m/brick
chmod 2775 $m/brick
"""


def seen(lab: Lab, machine: LabHost, one: PlacedBrick) -> dict[str, str]:
    """All that LVM, XFS and the system say of a brick, with its names and ids taken out."""
    group, _, _ = lvmpaths.names(one)
    point = lvmpaths.mount_point(one)
    asked = {
        "lvs": "lvs -a --noheadings --separator / --units b "
        f"-o lv_attr,lv_size,seg_monitor,chunk_size,lv_metadata_size,zero,discards,thin_count {group}",
        "vgs": f"vgs --noheadings -o vg_size,vg_free,vg_extent_size,vg_mda_size {group}",
        "pvs": f"pvs --noheadings -o pe_start,pv_mda_size -S vg_name={group}",
        "xfs_info": f"xfs_info {point}",
        "fstab": f"grep {group} /etc/fstab",
        "mount": f"grep {group} /proc/self/mountinfo | cut -d' ' -f5-",
        "mode": f"stat -c '%a %u %g' {point}/brick",
    }
    said = {what: lab.run(machine, ["sh", "-c", command]).stdout for what, command in asked.items()}
    hidden = re.compile(f"{one.device.id}|{one.brick.id}|7:\\d+|254:\\d+")
    return {what: hidden.sub("#", text) for what, text in said.items()}


async def test_a_brick_of_heketis_is_found_described_and_destroyed(clean_lab: Lab, backend: LvmBackend) -> None:
    machine = clean_lab.hosts[0]
    ours = placed(machine, naming.device_id(a_host(machine.address).id, machine.blocks[0]), machine.blocks[0])
    theirs = placed(machine, HEKETI, machine.blocks[1])
    words = [machine.blocks[1], HEKETI, theirs.brick.id, "f" * 32]
    clean_lab.run(machine, ["sh", "-c", _BY_HEKETI, "sh", *words], timeout=60)
    await backend.claim(ours.host, ours.device, INSTANCE)
    await backend.create(ours.host, [ours])
    await backend.mount_at_boot(ours.host, [ours])
    assert seen(clean_lab, machine, ours) == seen(clean_lab, machine, theirs)

    groups = {group.name: group for group in await backend.survey(ours.host)}
    found = groups[f"vg_{HEKETI}"].volumes[f"brick_{theirs.brick.id}"]
    assert (found.pool, found.size, found.active, found.tags) == ("tp_" + "f" * 32, SIZE, True, "")
    await backend.take_over(ours.host, theirs.device, [theirs])
    both = (ours, theirs)
    for state, one in zip(await backend.inspect(ours.host, both), both, strict=True):
        assert (state.image, state.mounted, state.directory, state.identity) == (True, True, True, one.identity)
    written = json.loads(clean_lab.run(machine, ["cat", lvmpaths.identity_file(theirs)]).stdout)
    assert written["volume_name"] == "pvc-heketi"
    await backend.destroy(ours.host, both)
    assert not clean_lab.run(machine, ["lvs", "--noheadings"]).stdout.strip()
    for device in (ours.device, theirs.device):
        await backend.give_back(ours.host, device)
    assert not clean_lab.run(machine, ["pvs", "--noheadings"]).stdout.strip()

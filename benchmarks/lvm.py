"""(i) and (j): bricks on LVM, in the virtual machine: ours against the plain shell, and against ``gluster snapshot``.

Each host has a disk for either side. The shell makes its bricks by Heketi's lines, with the device list and the pool's
settings that ours has. ``ROUNDS`` of them are measured, in turns, after one that warms up both.

The last row has no limit. It is what a snapshot of either kind cannot do without: one ``lvcreate --snapshot`` on each
host, all three at once, from open shells. The hosts share one slow processor here.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.plain import PlainPool
from benchmarks.pool import Ours, Row, timed
from csi.api import csi_pb2 as pb
from csi.core import sizes
from tests.driver import GIB, Driver
from tests.lab import Lab, vm
from tests.lab.sessions import remove_abandoned, session_instance

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = 3600.0  # the machine is slow, and may be busy
CREATE, SNAPSHOT = 1.3, 0.4  # times the shell, times `gluster snapshot create`
GROUP, ROOT, OPTIONS = "vg_plain", "/var/lib/gluster-csi/bench", "rw,inode64,noatime,nouuid"


class PlainLvm(PlainPool):
    """The shell's side: a volume group on each host. They differ in their names: the kernel has one list of all."""

    async def everywhere(self, text: str) -> None:
        named = [text.replace(GROUP, f"{GROUP}_{host.name}") for host in self.lab.hosts]
        await asyncio.gather(*(self.run(host, own) for host, own in enumerate(named)))

    async def claim(self, device: str) -> None:
        await self.everywhere(
            f"lvm pvcreate -qq --metadatasize=128M --dataalignment=256K {device} && "
            f"lvm vgcreate -qq --physicalextentsize=4M --autobackup=n {GROUP} {device}"
        )

    async def create(self, name: str, size: int, gid: int) -> None:
        brick = sizes.filesystem_size(size)
        data, metadata = sizes.pool_sizes(brick, 1.0)
        mapped, mount = f"/dev/mapper/{GROUP}-brick_{name}", f"{ROOT}/{name}"
        await self.everywhere(
            f"mkdir -p {mount} && lvm lvcreate -qq --autobackup=n --poolmetadatasize {metadata >> 10}K "
            f"--chunksize 256K --size {data >> 10}K --thin {GROUP}/tp_{name} --virtualsize {brick >> 10}K "
            f"--name brick_{name} && mkfs.xfs -q -K -i size=512 -n size=8192 {mapped} && "
            f"echo '{mapped} {mount} xfs {OPTIONS} 1 2' >> /etc/fstab && mount -o {OPTIONS} {mapped} {mount} && "
            f"mkdir {mount}/brick && chgrp {gid} {mount}/brick && chmod 2770 {mount}/brick"
        )
        await self.begin(name, mount)

    async def delete(self, name: str) -> None:
        await self.gluster(f"volume stop {name}")
        await self.gluster(f"volume delete {name}")
        mount = f"{ROOT}/{name}"
        await self.everywhere(
            f"umount {mount} && sed -i '\\|{mount} |d' /etc/fstab && rmdir {mount} && "
            f"lvm lvremove -qq --autobackup=n -f {GROUP}/brick_{name} && "
            f"lvm lvremove -qq --autobackup=n -f {GROUP}/tp_{name}"
        )

    async def thin_snapshot(self, name: str) -> None:
        """Nothing but LVM's part of a snapshot of the volume ``base``."""
        await self.everywhere(f"lvm lvcreate -qq --autobackup=n --snapshot {GROUP}/brick_base --name {name}")

    async def remove_thin(self, name: str) -> None:
        await self.everywhere(f"lvm lvremove -qq --autobackup=n -f {GROUP}/{name}")


async def _snapshot(ours: Ours, name: str, taken: list[str]) -> None:
    request = pb.CreateSnapshotRequest(name=name, source_volume_id=ours.ids["base"])
    call = ours.client.controller.CreateSnapshot.future(request, timeout=600)
    taken.append((await asyncio.to_thread(call.result)).snapshot.snapshot_id)


async def _forget(ours: Ours, snapshot_id: str) -> None:
    request = pb.DeleteSnapshotRequest(snapshot_id=snapshot_id)
    await asyncio.to_thread(ours.client.controller.DeleteSnapshot.future(request, timeout=600).result)


async def _round(ours: Ours, plain: PlainLvm, number: int) -> dict[str, float]:
    mine, theirs, taken = f"ours{number}", f"plain{number}", list[str]()  # a hyphen would be two in a mapped name
    sample = {
        "our create": await timed(ours.create(mine)),
        "create": await timed(plain.create(theirs, GIB, 3000)),
        "our snapshot": await timed(_snapshot(ours, f"s-{number}", taken)),
        "snapshot": await timed(plain.gluster(f"snapshot create s{number} base no-timestamp")),
        "lvcreate": await timed(plain.thin_snapshot(f"thin{number}")),
        "our delete": await timed(ours.delete(mine)),
        "delete": await timed(plain.delete(theirs)),
    }
    await _forget(ours, taken[0])
    await plain.gluster(f"snapshot delete s{number}")
    await plain.remove_thin(f"thin{number}")
    return sample


async def _measure(lab: Lab, driver: Driver) -> list[Row]:
    async with AsyncExitStack() as stack:
        plain = await PlainLvm.connect(lab, stack)
        await plain.claim(lab.hosts[0].blocks[1])
        ours = Ours(stack.enter_context(driver.client()))
        await ours.create("base")
        await plain.create("base", GIB, 3000)
        times: dict[str, list[float]] = {}
        for number in range(ROUNDS + 1):
            sample = await _round(ours, plain, number)
            if number:
                for what, value in sample.items():
                    times.setdefault(what, []).append(value)
        await ours.delete("base")
        await plain.delete("base")
        return [
            Row("(i) CreateVolume, lvm", times["our create"], times["create"], CREATE),
            Row("(i) DeleteVolume, lvm", times["our delete"], times["delete"], CREATE),
            Row("(j) CreateSnapshot, lvm", times["our snapshot"], times["snapshot"], SNAPSHOT),
            Row("    three lvcreate alone", times["lvcreate"], times["snapshot"], math.inf),
        ]


def measure() -> list[Row]:
    """In the virtual machine only."""
    with tempfile.TemporaryDirectory(prefix="gluster-csi-bench-") as temporary:
        remove_abandoned()
        lab = Lab(session_instance(), devices=0, blocks=2, hooks=False)
        try:
            lab.up()
            driver = Driver(lab, Path(temporary) / "driver", settings={"gids": {"rest_seconds": 0}})
            try:
                driver.start(topology=False)
                topology = lab.topology()
                for node in topology["clusters"][0]["nodes"]:
                    node["devices"] = node["devices"][:1]
                (driver.directory / "topology.json").write_text(json.dumps(topology))
                driver.load_topology()
                return asyncio.run(_measure(lab, driver))
            finally:
                driver.stop()
        finally:
            lab.down()


def in_the_virtual_machine() -> tuple[bool, str]:
    """Have the table made and shown there: whether all was good, and how busy this machine was meanwhile."""
    before = os.getloadavg()[1]
    status = vm.run(["env", f"ROUNDS={ROUNDS}", "python", "-m", "benchmarks", "lvm"], SECONDS)
    return status == 0, f"load of this machine {before:.1f} before, {os.getloadavg()[1]:.1f} after"

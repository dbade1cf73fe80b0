"""Bricks for tests that use the backend by itself, on the first host of the laboratory."""

from __future__ import annotations

from csi.core import naming
from csi.core.model import Backend, Brick, BrickIdentity, Device, DeviceId, Gid, PlacedBrick, VolumeSpec
from tests.contract.bricks.hosts import a_host
from tests.lab import Lab, LabHost

INSTANCE = "lvm-test"
SIZE = 1 << 30

_CLEAR = """
vgs --noheadings -o vg_name | xargs -r vgremove -qq -f
pvs --noheadings -o pv_name | xargs -r pvremove -qq
wipefs -q -a /dev/vdb /dev/vdc
"""


def clear(lab: Lab) -> None:
    lab.run(lab.hosts[0], ["sh", "-c", _CLEAR], check=False)


def placed(machine: LabHost, device: DeviceId, path: str) -> PlacedBrick:
    host = a_host(machine.address)
    volume = naming.volume_id("pvc-heketi")
    brick_id = naming.brick_id(volume, 0, 0)
    directory = naming.brick_directory(device, brick_id, Backend.LVM)
    brick = Brick(brick_id, 0, 0, host.id, device, SIZE, SIZE, directory)
    name = naming.gluster_name(volume)
    who = BrickIdentity(INSTANCE, volume, "pvc-heketi", name, host.cluster_id, SIZE, VolumeSpec(), Gid(2000), brick)
    return PlacedBrick(who, host, Device(device, host.id, path, Backend.LVM, 8 << 30), 0o2775)


def placed_on(machine: LabHost, path: str) -> PlacedBrick:
    """On a device of ours."""
    return placed(machine, naming.device_id(a_host(machine.address).id, path), path)

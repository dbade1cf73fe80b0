"""A cluster, a host and a device, volumes and operations, as the store in custom resources keeps them."""

from __future__ import annotations

from csi.core import naming
from csi.core.model import (
    Backend,
    Cluster,
    ClusterId,
    Device,
    Direction,
    Gid,
    Host,
    Operation,
    OperationKind,
    Step,
    Volume,
    VolumeSpec,
    VolumeState,
)

CLUSTER = Cluster(ClusterId("c" * 32))
HOST = Host(naming.host_id("n1"), CLUSTER.id, "n1", "10.0.0.1", zone=1, tags={"rack_row": "1"})
DEVICE = Device(naming.device_id(HOST.id, "/d"), HOST.id, "/d", Backend.FILE, 1 << 40)


def volume(name: str = "a", state: VolumeState = VolumeState.READY) -> Volume:
    volume_id = naming.volume_id(name)
    return Volume(volume_id, name, f"vol_{volume_id}", CLUSTER.id, 1 << 30, VolumeSpec(), (), Gid(2000), state)


def operation(kind: OperationKind, direction: Direction = Direction.FORWARD) -> Operation:
    of = volume()
    return Operation(naming.operation_id(kind, of.id), kind, of, (Step.MAKE_BRICKS,), direction)

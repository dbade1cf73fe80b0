"""A cluster with hosts and devices, and records of volumes on them, for the tests of stores."""

from __future__ import annotations

from csi.core import naming
from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Brick,
    Cluster,
    ClusterId,
    Copy,
    Device,
    Durability,
    Gid,
    Host,
    Operation,
    OperationKind,
    Protection,
    Record,
    Snapshot,
    SnapshotState,
    Step,
    TagRule,
    Volume,
    VolumeSpec,
)
from csi.ports import Put, Store

CLUSTER = Cluster(ClusterId("c" * 32))
HOSTS = tuple(
    Host(naming.host_id(f"n{i}"), CLUSTER.id, f"n{i}", f"10.0.0.{i}", zone=i, tags={"rack": str(i)}) for i in range(3)
)
DEVICES = tuple(Device(naming.device_id(host.id, "/d"), host.id, "/d", Backend.FILE, 1 << 40) for host in HOSTS)
TOPOLOGY: tuple[Record, ...] = (CLUSTER, *HOSTS, *DEVICES)


def volume(name: str, gid: int = 2000) -> Volume:
    spec = VolumeSpec(
        durability=Durability(Protection.REPLICATE, 1, 2, arbiter=True),
        options=(("performance.readdir-ahead", "on"),),
        device_tag=TagRule("disk", "ssd-1", equal=False),
    )
    volume_id = naming.volume_id(name)
    bricks = tuple(
        Brick(naming.brick_id(volume_id, 0, i), 0, i, device.host_id, device.id, 1 << 30, 1 << 30, f"/b/{name}/{i}")
        for i, device in enumerate(DEVICES)
    )
    return Volume(volume_id, name, f"vol_{volume_id}", CLUSTER.id, 1 << 30, spec, bricks, Gid(gid))


def snapshot(name: str, gid: int = 2000, state: SnapshotState = SnapshotState.READY) -> Snapshot:
    of, known = volume("a", gid=gid), naming.snapshot_id(name)
    copies = tuple(
        Copy(naming.copy_id(known, b.set, b.index), b.set, b.index, b.host_id, b.device_id, b.size, 1 << 29)
        for b in of.bricks
    )
    return Snapshot(known, name, of.id, of.name, CLUSTER.id, of.size, of.spec, of.gid, copies, 12.5, state=state)


def creation(of: Volume) -> Operation:
    kind = OperationKind.CREATE
    return Operation(naming.operation_id(kind, of.id), kind, of, (Step.MAKE_BRICKS,), started=12.5)


async def put(store: Store, *records: Record) -> Inventory:
    return await store.commit([Put(record) for record in records])

"""Small inventories for the tests of placement, and the volumes that are placed on them."""

from __future__ import annotations

from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Brick,
    BrickId,
    Cluster,
    ClusterId,
    Device,
    DeviceId,
    Durability,
    Gid,
    Host,
    HostId,
    Protection,
    Volume,
    VolumeId,
    VolumeSpec,
)
from csi.core.placement import Layout, PlacementRequest

CLUSTER = ClusterId("c")
REPLICA3 = Durability(Protection.REPLICATE, 1, 2)
ARBITER = Durability(Protection.REPLICATE, 1, 2, arbiter=True)
NONE = Durability(Protection.NONE)


def host(number: int, zone: int = 1, **changes: object) -> Host:
    name = f"h{number}"
    return Host(HostId(name), CLUSTER, name, name, zone, **changes)  # type: ignore[arg-type]


def device(owner: Host, number: int, total: int, **changes: object) -> Device:
    path = f"/d{number}"
    backend = changes.pop("backend", Backend.FILE)
    return Device(DeviceId(owner.id + path), owner.id, path, backend, total, **changes)  # type: ignore[arg-type]


def pool(hosts: int, devices: int, total: int, zones: int = 1) -> list[Host | Device]:
    made = [host(number, 1 + number % zones) for number in range(hosts)]
    return [*made, *(device(owner, number, total) for owner in made for number in range(devices))]


def inventory(*records: Host | Device) -> Inventory:
    return Inventory.of([Cluster(CLUSTER), *records])


def spec(durability: Durability = REPLICA3, **changes: object) -> VolumeSpec:
    return VolumeSpec(durability, **changes)  # type: ignore[arg-type]


def volume(number: int, request: PlacementRequest, layout: Layout) -> Volume:
    bricks = tuple(
        Brick(
            BrickId(f"{number}-{s}-{i}"), s, i, spot.host.id, spot.device.id, spot.size, spot.footprint, "", spot.role
        )
        for s, places in enumerate(layout.sets)
        for i, spot in enumerate(places)
    )
    name = f"v{number}"
    return Volume(VolumeId(name), name, name, CLUSTER, request.size, request.spec, bricks, Gid(2000 + number))

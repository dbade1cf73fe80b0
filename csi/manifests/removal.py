"""What keeps a cluster, host or device from being removed, in words. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from csi.core.inventory import Inventory
from csi.core.model import Brick, Cluster, Device, Host, Record
from csi.store.guard import held_bricks

_MOST_SHOWN = 5


def holding(record: Cluster | Host | Device, inventory: Inventory) -> str:
    """Empty: nothing does. Otherwise what it holds, what becomes of it, and what is to be done."""
    match record:
        case Cluster():
            held = [f"host {inventory.hosts[host].manage}" for host in inventory.hosts_of.get(record.id, ())]
            held += [f"volume {v.name}" for v in inventory.volumes.values() if v.cluster_id == record.id]
            remedy = "delete its GlusterHosts, and the claims of its volumes"
        case Host():
            held = [f"device {inventory.devices[device].path}" for device in inventory.devices_of.get(record.id, ())]
            remedy = "delete its GlusterDevices"
        case _:
            # Volumes are many, and most devices that are deleted are empty by then.
            held = list(_bricks(record, inventory)) if inventory.used.get(record.id, 0) else []
            remedy = "delete the claims of these volumes, and these snapshots"
    if not held:
        return ""
    shown = ", ".join(held[:_MOST_SHOWN]) + (f", and {len(held) - _MOST_SHOWN} more" if len(held) > _MOST_SHOWN else "")
    placed = "" if isinstance(record, Cluster) else " Nothing new is placed on it."
    return f"it still holds {shown}.{placed} It goes by itself when they have gone: {remedy}."


def _bricks(device: Device, inventory: Inventory) -> Iterator[str]:
    owners: list[tuple[Record, str]] = [(volume, f"volume {volume.name}") for volume in inventory.volumes.values()]
    owners += [(plan, f"volume {plan.volume.name}, which is being made") for plan in inventory.operations.values()]
    owners += [(snapshot, f"snapshot {snapshot.name}") for snapshot in inventory.snapshots.values()]
    for record, name in owners:
        for brick in held_bricks(record):
            if brick.device_id == device.id:
                what = f"brick {brick.path}" if isinstance(brick, Brick) else f"copy {brick.id}"
                yield f"{what} of {name}"

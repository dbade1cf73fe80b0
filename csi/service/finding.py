"""Snapshots that the hosts know and the records do not: found by what their copies say of themselves.

A snapshot is found again when all its copies are there and say the same, and a group when all its members are. Of
anything less it is told what is missing, and nothing on any host is changed until somebody wants just that deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from csi.copyports import BrickCopies, FoundCopy
from csi.core import copies
from csi.core.copyidentity import CopyIdentity
from csi.core.inventory import Inventory
from csi.core.model import Backend, ClusterId, Device, Host, Snapshot, SnapshotState
from csi.ports import BrickBackend
from csi.tasks import together


@dataclass(frozen=True, slots=True)
class FoundSnapshots:
    """``strays``: for people, of copies that make no whole snapshot. ``remnants``: what there is of those, if it agrees
    on whose it is: good for nothing but to be deleted.
    """

    snapshots: tuple[Snapshot, ...] = ()
    strays: tuple[str, ...] = ()
    remnants: tuple[Snapshot, ...] = ()


async def survey(
    inventory: Callable[[], Inventory], instance: str, backends: Mapping[Backend, BrickBackend], cluster: ClusterId
) -> FoundSnapshots:
    """Every snapshot of ours on the cluster's devices that has no record."""
    # One that goes meanwhile had a record before, one that comes has one afterwards.
    known: set[str] = set(inventory().snapshots)
    found = await look(inventory(), cluster, backends)
    known |= set(inventory().snapshots)
    return assemble(found, instance=instance, cluster=cluster, known=known, inventory=inventory())


async def look(
    inventory: Inventory, cluster: ClusterId, backends: Mapping[Backend, BrickBackend]
) -> tuple[FoundCopy, ...]:
    """Every copy on the cluster's devices: one round trip per host and kind of device."""
    calls = []
    for host_id in inventory.hosts_of.get(cluster, ()):
        by_backend: dict[Backend, list[Device]] = {}
        for device_id in inventory.devices_of.get(host_id, ()):
            device = inventory.devices[device_id]
            by_backend.setdefault(device.backend, []).append(device)
        for kind, devices in by_backend.items():
            backend = backends[kind]
            if isinstance(backend, BrickCopies):
                calls.append(backend.find_copies(inventory.hosts[host_id], devices))
    return tuple(copy for found in await together(calls) for copy in found)


def assemble(
    found: Sequence[FoundCopy], *, instance: str, cluster: ClusterId, known: set[str], inventory: Inventory
) -> FoundSnapshots:
    """The snapshots that these copies make. ``known``: ids of those that have records, or had when it was looked."""
    by_snapshot: dict[str, list[FoundCopy]] = {}
    for copy in found:
        if copy.identity.instance == instance and copy.identity.snapshot_id not in known:
            by_snapshot.setdefault(copy.identity.snapshot_id, []).append(copy)
    snapshots: list[Snapshot] = []
    strays: list[str] = []
    remnants: list[Snapshot] = []
    broken: dict[str, str] = {}  # group -> its member that is not whole
    for _, parts in sorted(by_snapshot.items()):
        parts.sort(key=lambda part: (part.identity.copy.set, part.identity.copy.index))
        first = parts[0].identity
        if why := _wanting(parts):
            strays.append(_stray(first, parts, why, inventory))
            broken.setdefault(first.group_id, first.snapshot_name)
            if _of_one(parts) and len({part.identity.copy.id for part in parts}) == len(parts):
                remnants.append(_snapshot(parts, cluster))
        else:
            snapshots.append(_snapshot(parts, cluster))
    broken.pop("", None)
    for one in [s for s in snapshots if s.group_id in broken]:
        snapshots.remove(one)
        remnants.append(one)
        strays.append(
            f"snapshot {one.name!r} ({one.id}) is whole, but {broken[one.group_id]!r} of its group "
            f"{one.group_name!r} is not"
        )
    gone = tuple(replace(one, state=SnapshotState.DELETING) for one in remnants)
    return FoundSnapshots(tuple(snapshots), tuple(strays), gone)


def _wanting(parts: Sequence[FoundCopy]) -> str:
    """Why these copies are no whole snapshot; empty if they are one."""
    first = parts[0].identity
    if not _of_one(parts):
        return "its copies say different things of it"
    width = first.spec.durability.set_size
    total = first.total or (parts[-1].identity.copy.set + 1) * width
    there = {(part.identity.copy.set, part.identity.copy.index) for part in parts}
    if missing := [divmod(n, width) for n in range(total) if divmod(n, width) not in there]:
        places = ", ".join(f"{index} of set {number}" for number, index in missing[:10])
        return f"{len(missing)} of its {total} copies are missing: {places}"
    return "" if len(parts) == total else "there are two of one of its copies"


def _of_one(parts: Sequence[FoundCopy]) -> bool:
    first = parts[0].identity
    return all(replace(p.identity, copy=first.copy, cluster_id=first.cluster_id) == first for p in parts)


def _snapshot(parts: Sequence[FoundCopy], cluster: ClusterId) -> Snapshot:
    first = parts[0].identity
    return Snapshot(
        id=first.snapshot_id,
        name=first.snapshot_name,
        volume_id=first.volume_id,
        volume_name=first.volume_name,
        cluster_id=cluster,
        size=first.volume_size,
        spec=first.spec,
        gid=first.gid,
        copies=tuple(replace(p.identity.copy, footprint=copies.footprint(p.taken)) for p in parts),
        created=min(part.moment for part in parts),
        group_id=first.group_id,
        group_name=first.group_name,
        state=SnapshotState.READY,
    )


def _stray(first: CopyIdentity, parts: Sequence[FoundCopy], why: str, inventory: Inventory) -> str:
    def place(part: FoundCopy) -> str:
        copy = part.identity.copy
        host: Host | None = inventory.hosts.get(copy.host_id)
        device = inventory.devices.get(copy.device_id)
        return f"{host.manage if host else copy.host_id}:{device.path if device else copy.device_id} ({copy.id})"

    return (
        f"snapshot {first.snapshot_name!r} ({first.snapshot_id}) of volume {first.volume_name!r} is not whole: {why}; "
        f"there are {', '.join(map(place, parts))}"
    )

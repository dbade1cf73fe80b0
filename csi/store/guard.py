"""What a commit does to the inventory, and when it may not: the one set of rules for every store.

Pure, so that the memory store and the durable ones can't differ in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from csi.core.errors import InUse, StaleState
from csi.core.inventory import Inventory
from csi.core.model import (
    Brick,
    Cluster,
    Copy,
    Device,
    Host,
    Operation,
    OperationKind,
    Record,
    Snapshot,
    Volume,
)
from csi.ports import Change, Put, Remove


@dataclass(frozen=True, slots=True)
class Advance:
    """A commit that may be written. ``puts`` carry the version that they are stored with."""

    before: Inventory
    after: Inventory
    puts: tuple[Record, ...]
    removes: tuple[Record, ...]


def held_bricks(record: Record) -> tuple[Brick, ...] | tuple[Copy, ...]:
    """The bricks that keep their devices from being removed."""
    match record:
        case Volume(bricks=bricks):
            return bricks
        case Snapshot(copies=copies):
            return copies
        case Operation(kind=OperationKind.DELETE):
            return ()
        case Operation(volume=volume, before=before):
            held = {brick.id for brick in before.bricks} if before is not None else set()
            return tuple(brick for brick in volume.bricks if brick.id not in held)
        case _:
            return ()


def advance(inventory: Inventory, changes: Sequence[Change]) -> Advance:
    """The inventory after ``changes``.

    Raises: StaleState (a version, or a record that is referred to, is no longer there), InUse (a record that is
    to go is still referred to).
    """
    puts: list[Record] = []
    removes: list[Record] = []
    seen: set[tuple[type, str]] = set()
    for change in changes:
        record = change.record
        key = (type(record), record.id)
        if key in seen:
            raise ValueError(f"{_shown(record)} stands twice in one commit")
        seen.add(key)
        stored = inventory.find(record)
        _check_version(change, stored)
        if isinstance(change, Put):
            puts.append(replace(record, version=record.version + 1))
        else:
            # The stored one, not the caller's: what is taken back must be exactly what was booked.
            removes.append(stored or record)
    after = inventory.with_changes(puts, removes)
    for record in puts:
        _check_references(record, after)
    for record in removes:
        _check_unused(record, after)
    return Advance(inventory, after, tuple(puts), tuple(removes))


def _check_version(change: Change, stored: Record | None) -> None:
    record = change.record
    present = stored.version if stored is not None else 0
    if isinstance(change, Remove) and stored is None:
        raise StaleState(f"{_shown(record)} is to be removed but is not there")
    if record.version != present:
        raise StaleState(
            f"{_shown(record)} was read at version {record.version}"
            + (f" but is at version {present}" if stored is not None else " but is not there any more")
        )


def _check_references(record: Record, after: Inventory) -> None:
    """What the record refers to must be there: it may have been removed since the caller looked."""
    match record:
        case Host(cluster_id=cluster_id) if cluster_id not in after.clusters:
            raise StaleState(f"{_shown(record)} belongs to cluster {cluster_id}, which is not there")
        case Device(host_id=host_id) if host_id not in after.hosts:
            raise StaleState(f"{_shown(record)} belongs to host {host_id}, which is not there")
        case Volume(cluster_id=cluster_id) | Snapshot(cluster_id=cluster_id) if cluster_id not in after.clusters:
            raise StaleState(f"{_shown(record)} belongs to cluster {cluster_id}, which is not there")
        case _:
            for brick in held_bricks(record):
                if brick.device_id not in after.devices:
                    raise StaleState(f"{_shown(record)} has a brick on device {brick.device_id}, which is not there")


def _check_unused(record: Record, after: Inventory) -> None:
    match record:
        case Device(id=device_id) if after.used.get(device_id, 0):
            raise InUse(f"{_shown(record)} still carries bricks: move them or delete their volumes first")
        case Host(id=host_id) if after.devices_of.get(host_id, ()):
            raise InUse(f"{_shown(record)} still has devices: remove them first")
        case Cluster(id=cluster_id) if after.hosts_of.get(cluster_id, ()):
            raise InUse(f"{_shown(record)} still has hosts: remove them first")
        case Cluster(id=cluster_id) if any(v.cluster_id == cluster_id for v in after.volumes.values()):
            raise InUse(f"{_shown(record)} still has volumes: delete them first")
        case Cluster(id=cluster_id) if any(s.cluster_id == cluster_id for s in after.snapshots.values()):
            raise InUse(f"{_shown(record)} still has snapshots: delete them first")
        case _:
            pass


def _shown(record: Record) -> str:
    return f"{type(record).__name__.lower()} {record.id}"

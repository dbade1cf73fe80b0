"""The writes of a commit, in an order from which every crash can be recovered; and the recovery.

The API server knows no transaction over several resources, so a commit of n changes is n writes, one after the other,
and the process may end between any two of them. Puts go before removals:

    put      RestingGid, Cluster, Host, Device, Operation that creates, Volume, Snapshot, Operation that deletes
    remove   Volume, Snapshot, Operation, RestingGid, Device, Host, Cluster

So what is referred to is there before and after what refers to it, a GID never comes free in between, and each commit
of ``service/journal.py`` that was cut in two leaves a pair of records that no whole commit leaves:

    the commit               its writes                            cut in two, it leaves          at the next start
    begin_create             put Operation; remove RestingGids     GIDs that rest on              nothing: they are due
    finish_create            put Volume; remove Operation          Volume, creation FORWARD       remove the Operation
    finish_create with a     put regrouping; put Volume;           regrouping, creation FORWARD  remove the regrouping
    regrouping               remove Operation                      ... and Volume                remove the creation
    begin_delete             put Volume DELETING; put Operation    Volume DELETING, no Operation  Volume READY again
    finish_delete            put RestingGid; remove Volume;        RestingGid, Volume, Operation  nothing: it is redone
                             remove Operation                      deletion, no Volume            remove the Operation
    revoke_delete            put Volume READY; remove Operation    Volume READY, deletion         remove the Operation
    begin_expand, revise                                           one write each
    finish_change            put Volume; remove Operation          Volume as it should be         remove the Operation
    begin_delete of a volume that is being changed: as above, and Volume READY again has the bricks of the change,
                             which goes on; or Volume DELETING with its deletion and the change  remove the change
    turn_back, note, adopt, finish_undo                            one write each
    group of snapshots           put Snapshots, each its own line  some TAKING, some not          all of it is undone
    end of a snapshot            put RestingGid; remove Snapshot   RestingGid, Snapshot           nothing: it is redone

Nothing is touched on a host before begin_delete has returned. Of a volume somebody is told when finish_create has put
the Volume and our lease holds still: who leads after us begins when it has ended, so it finds the Volume, and the
Operation is done. Its removal follows (``clearing.py``). If a Volume was put late, by one that leads no more, it stands
beside a creation that goes BACK, and nobody was told of it: the Volume is removed, and the undoing goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from csi.core import naming
from csi.core.inventory import Inventory
from csi.core.model import (
    Cluster,
    Device,
    Direction,
    Host,
    Operation,
    OperationKind,
    Record,
    RestingGid,
    Snapshot,
    Volume,
    VolumeState,
)
from csi.ports import Change, Put, Remove
from csi.store.guard import Advance

_PUTS: tuple[type[Record], ...] = (RestingGid, Cluster, Host, Device, Operation, Volume, Snapshot)
_REMOVALS: tuple[type[Record], ...] = (Volume, Snapshot, Operation, RestingGid, Device, Host, Cluster)


class Verb(Enum):
    CREATE = "POST"
    REPLACE = "PATCH"
    REMOVE = "DELETE"


@dataclass(frozen=True, slots=True)
class Write:
    """One request. ``record`` is what is there afterwards (of a removal: before), ``before`` what it replaces."""

    verb: Verb
    record: Record
    before: Record | None = None

    @property
    def key(self) -> tuple[type[Record], str]:
        return type(self.record), self.record.id


def in_order(step: Advance) -> tuple[Write, ...]:
    puts = [
        Write(Verb.CREATE if (before := step.before.find(record)) is None else Verb.REPLACE, record, before)
        for record in sorted(step.puts, key=_turn_of_put)
    ]
    removals = [
        Write(Verb.REMOVE, record, record)
        for record in sorted(step.removes, key=lambda record: _REMOVALS.index(type(record)))
    ]
    return (*puts, *removals)


def _turn_of_put(record: Record) -> int:
    if isinstance(record, Operation) and record.kind is OperationKind.DELETE:
        return len(_PUTS)
    return _PUTS.index(type(record))


def repairs(inventory: Inventory) -> Sequence[Change]:
    """What brings a state that a commit was cut short in to one that a whole commit leaves; empty for those."""
    changes: list[Change] = []
    for operation in inventory.operations.values():
        volume = inventory.volumes.get(operation.volume.id)
        if operation.kind in (OperationKind.CREATE, OperationKind.DELETE):
            changes += _of_operation(operation, volume)
        elif _is_over(operation, volume, inventory):
            changes.append(Remove(operation))
    for volume in inventory.volumes.values():
        deletion = naming.operation_id(OperationKind.DELETE, volume.id)
        if volume.state is VolumeState.DELETING and deletion not in inventory.operations:
            changes.append(Put(replace(volume, state=VolumeState.READY)))
    return changes


def _of_operation(operation: Operation, volume: Volume | None) -> Iterator[Change]:
    match operation:
        case Operation(kind=OperationKind.CREATE, direction=Direction.FORWARD) if volume is not None:
            yield Remove(operation)
        case Operation(kind=OperationKind.CREATE, direction=Direction.BACK) if volume is not None:
            yield Remove(volume)
        case Operation(kind=OperationKind.DELETE) if volume is None or volume.state is VolumeState.READY:
            yield Remove(operation)
        case _:
            pass


def _is_over(change: Operation, volume: Volume | None, inventory: Inventory) -> bool:
    """The change is done, or the volume is deleted in its place."""
    if change.kind in (OperationKind.HEAL, OperationKind.REBALANCE) and volume is not None:
        return naming.operation_id(OperationKind.DELETE, volume.id) in inventory.operations
    if volume is None or volume == replace(change.volume, state=volume.state, version=volume.version):
        return True
    return naming.operation_id(OperationKind.DELETE, volume.id) in inventory.operations

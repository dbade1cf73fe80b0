"""The journal: what is being done to which volume, written before anything is done.

Keys: one ``Operation`` per volume and kind, its id derived from the volume id, so two can't stand side by side.

Order of writes
    create    1 put Operation with the whole plan         **the line**: before it nothing has happened;
                                                          it holds the space and the GID from here on
              2 put Volume, remove Operation              one commit; only now is anybody told
    undo      1 put Operation, direction BACK             before the first thing is undone
              2 remove Operation                          space and GID are free again
    delete    1 put Volume DELETING, put Operation        one commit; hidden from here on
              2 remove Volume, remove Operation,
                put RestingGid                            one commit, after the data is gone
    change    1 put Operation with the volume as it       it holds what the volume needs on top of what it has
                will be, and as it was
              2 put Volume, remove Operation              one commit; only now is it told to have changed
    regroup   1 put Operation                             in the commit that ends the create of a copy that gets a GID
                                                          of its own: who asked for it waits on
              2 put Volume, remove Operation              one commit; only now is anybody told

What a crash leaves behind is therefore always an Operation, and the Operation tells where to look: creates
that go FORWARD may be resumed by a retry or turned back; those that go BACK are undone; deletes and changes go on. A
volume that is deleted in the middle of a change is deleted with all bricks that the change may have made or enlarged.
Nothing on a host is touched without an Operation that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from csi.core import naming
from csi.core.inventory import Inventory
from csi.core.model import (
    Direction,
    Gid,
    Operation,
    OperationKind,
    PoolSize,
    RestingGid,
    SourceKind,
    Step,
    Volume,
    VolumeId,
    VolumeState,
)
from csi.ports import Change, Clock, Put, Remove, Store

BRICKS_OF: dict[SourceKind | None, tuple[Step, ...]] = {
    None: (Step.MAKE_BRICKS,),
    SourceKind.SNAPSHOT: (Step.FILL_FROM_SNAPSHOT, Step.MAKE_FROM_COPIES),
    SourceKind.VOLUME: (Step.COPY_VOLUME,),
}
CREATE_STEPS = (Step.CREATE_VOLUME, Step.SET_OPTIONS, Step.START_VOLUME)
DELETE_STEPS = (Step.REMOVE_VOLUME, Step.DESTROY_BRICKS)
# Kinds that change a volume, of which one is open at a time; and those that wait for what gluster does afterwards.
CHANGES = (OperationKind.EXPAND, OperationKind.MODIFY, OperationKind.EXTEND, OperationKind.REGROUP)
WATCHES = (OperationKind.HEAL, OperationKind.REBALANCE)


def change_of(inventory: Inventory, volume: VolumeId) -> Operation | None:
    """What is being changed of it."""
    found = (inventory.operations.get(naming.operation_id(kind, volume)) for kind in CHANGES)
    return next((operation for operation in found if operation is not None), None)


def plan_create(volume: Volume, *, grows: bool = False) -> tuple[Step, ...]:
    """Options are set in one step of their own, and only when there are some: a ``volume set`` is dear."""
    spec = volume.spec
    first = BRICKS_OF[volume.source.kind if volume.source is not None else None]
    larger = (Step.GROW_BRICKS,) if grows else ()
    rest = (step for step in CREATE_STEPS if step is not Step.SET_OPTIONS or spec.options or spec.profile)
    return (*first, *larger, *rest)


def plan_expand(before: Volume, wanted: Volume) -> tuple[Step, ...]:
    """The identities of all bricks tell the new size last."""
    more = len(wanted.bricks) > len(before.bricks)
    return (*((Step.ADD_BRICKS, Step.REBALANCE) if more else ()), Step.GROW_BRICKS)


def plan_modify(before: Volume, wanted: Volume) -> tuple[Step, ...]:
    """Last the identities of all bricks, which growing to the size that they have writes anew."""
    old, new = before.spec, wanted.spec
    steps = [Step.SET_OPTIONS] if (old.options, old.profile) != (new.options, new.profile) else []
    steps += [Step.ADD_BRICKS] if len(wanted.bricks) > len(before.bricks) else []
    return (*steps, Step.GROW_BRICKS)


# Last the identities of all bricks, which then say no more that files may have another group.
REGROUP_STEPS = (Step.REGROUP_FILES, Step.GROW_BRICKS)


@dataclass(slots=True)
class Journal:
    """Writes operations. ``gid_rest`` is how long a freed GID rests, in seconds; ``term`` that of this controller."""

    store: Store
    clock: Clock
    gid_rest: float
    term: Callable[[], int] = lambda: 0

    @property
    def inventory(self) -> Inventory:
        return self.store.inventory

    def find(self, kind: OperationKind, volume: VolumeId) -> Operation | None:
        return self.inventory.operations.get(naming.operation_id(kind, volume))

    async def begin_create(self, volume: Volume, *, grows: bool = False) -> Operation:
        """``grows``: its bricks are larger than what they are copies of."""
        rested = self._rested()
        operation = Operation(
            id=naming.operation_id(OperationKind.CREATE, volume.id),
            kind=OperationKind.CREATE,
            volume=volume,
            steps=plan_create(volume, grows=grows),
            started=self.clock.now(),
            term=self.term(),
        )
        return await self._put(operation, *(Remove(gid) for gid in rested))

    async def finish_create(self, operation: Operation) -> Volume:
        volume = operation.volume
        regroup = [Put(self._regroup(volume))] if volume.regroup_from is not None else []
        await self.store.commit([Put(volume), *regroup, Remove(operation)])
        return self.inventory.volumes[volume.id]

    async def begin_regroup(self, volume: Volume) -> Operation:
        """Of a volume that was found again before that was done."""
        return await self._put(self._regroup(volume))

    def _regroup(self, volume: Volume) -> Operation:
        return self._change(OperationKind.REGROUP, volume, replace(volume, regroup_from=None), REGROUP_STEPS)

    async def turn_back(self, operation: Operation, error: str) -> Operation:
        return await self._put(replace(operation, direction=Direction.BACK, error=error))

    async def finish_undo(self, operation: Operation) -> None:
        await self.store.commit([Remove(operation)])

    async def begin_expand(self, volume: Volume, wanted: Volume) -> Operation:
        return await self._put(self._change(OperationKind.EXPAND, volume, wanted, plan_expand(volume, wanted)))

    async def begin_modify(self, volume: Volume, wanted: Volume) -> Operation:
        return await self._put(self._change(OperationKind.MODIFY, volume, wanted, plan_modify(volume, wanted)))

    async def begin_extend(self, volume: Volume, wanted: Volume, pools: Sequence[PoolSize]) -> Operation:
        """``pools``: what those of its bricks shall have; the bricks of ``wanted`` take so much more."""
        change = self._change(OperationKind.EXTEND, volume, wanted, (Step.EXTEND_POOLS,))
        return await self._put(replace(change, pools=tuple(pools)))

    def _change(self, kind: OperationKind, volume: Volume, wanted: Volume, steps: tuple[Step, ...]) -> Operation:
        return Operation(
            id=naming.operation_id(kind, volume.id),
            kind=kind,
            volume=wanted,
            steps=steps,
            started=self.clock.now(),
            term=self.term(),
            before=volume,
        )

    async def revise(self, operation: Operation, wanted: Volume) -> Operation:
        """The same change, with another end. It must not need more of any device."""
        return await self._put(replace(operation, volume=wanted))

    async def finish_change(self, operation: Operation) -> Volume:
        present = self.inventory.volumes[operation.volume.id]
        changed = replace(operation.volume, state=present.state, version=present.version)
        changes: list[Change] = [Put(changed), Remove(operation)]
        if Step.ADD_BRICKS in operation.steps:
            moved = operation.kind is OperationKind.EXPAND
            kind, step = (OperationKind.REBALANCE, Step.REBALANCE) if moved else (OperationKind.HEAL, Step.HEAL)
            if self.find(kind, changed.id) is None:
                changes.append(Put(self._change(kind, changed, changed, (step,))))
        await self.store.commit(changes)
        return self.inventory.volumes[changed.id]

    async def close(self, operation: Operation) -> None:
        """Nothing is left to be done for it."""
        await self.store.commit([Remove(operation)])

    def change_of(self, volume: VolumeId) -> Operation | None:
        return change_of(self.inventory, volume)

    async def begin_delete(self, volume: Volume) -> Operation:
        change = self.change_of(volume.id)
        # With all bricks of the change, whose spec says what sets they make; the size is what it is known to have.
        whole = volume if change is None else replace(change.volume, size=volume.size, version=volume.version)
        hidden = replace(whole, state=VolumeState.DELETING)
        operation = Operation(
            id=naming.operation_id(OperationKind.DELETE, volume.id),
            kind=OperationKind.DELETE,
            volume=whole,
            steps=DELETE_STEPS,
            started=self.clock.now(),
            term=self.term(),
            before=volume if change is not None else None,
        )
        ended = [found for kind in (*CHANGES, *WATCHES) if (found := self.find(kind, volume.id)) is not None]
        return await self._put(operation, Put(hidden), *map(Remove, ended))

    async def finish_delete(self, operation: Operation) -> None:
        """The data is gone: space at once, the GID after its rest (unless another volume shares it)."""
        volume = self.inventory.volumes[operation.volume.id]
        await self.store.commit([Remove(volume), Remove(operation), *self.rest(volume.gid)])

    def rest(self, gid: Gid) -> list[Change]:
        """What a commit needs that removes the record of who held it. Where others hold it too the last one does it."""
        if self.gid_rest <= 0 or self.inventory.gid_counts.get(gid, 0) > 1:
            return []
        rest = RestingGid(gid, self.clock.now() + self.gid_rest)
        return [Put(rest)]

    async def revoke_delete(self, operation: Operation) -> None:
        """Nothing was changed on any host and nothing may be: the volume is visible again."""
        volume = self.inventory.volumes[operation.volume.id]
        await self.store.commit([Put(replace(volume, state=VolumeState.READY)), Remove(operation)])

    async def note(self, operation: Operation, error: str) -> Operation:
        """Why it waits, for those who look."""
        return await self._put(replace(operation, error=error, attempts=operation.attempts + 1))

    async def adopt(self, volume: Volume) -> Volume:
        """Record a volume that was found on the hosts."""
        await self.store.commit([Put(volume)])
        return self.inventory.volumes[volume.id]

    async def _put(self, operation: Operation, *others: Change) -> Operation:
        await self.store.commit([Put(operation), *others])
        return self.inventory.operations[operation.id]

    def _rested(self) -> Sequence[RestingGid]:
        """A few GIDs whose rest is over; each create clears some, so that none does much."""
        now = self.clock.now()
        due: list[RestingGid] = []
        for gid in self.inventory.resting.values():
            if gid.until <= now:
                due.append(gid)
                if len(due) == 16:
                    break
        return due

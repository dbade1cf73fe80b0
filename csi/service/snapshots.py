"""Snapshots: take, delete, look up, list; and groups of them, of volumes at one moment.

A snapshot's record is its own line of the journal:

    take      1 put Snapshot TAKING with all its copies     before it nothing has happened; it holds space and GID
              2 put Snapshot READY                          only now is anybody told
    undo, and 1 put Snapshot DELETING                       a deletion; hidden from here on
    delete    2 remove Snapshot, put RestingGid             after the copies are gone

One that is TAKING and that nobody is at is undone, with all others of its group: copies that were not all made
together are of no use. A snapshot needs its volume no longer when it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from csi.copyports import Pair
from csi.core import copies, naming
from csi.core.copyidentity import PlacedCopy
from csi.core.errors import (
    Busy,
    Conflict,
    DriverError,
    Incoherent,
    InvalidRequest,
    InvalidToken,
    NotFound,
    TooMany,
    Unavailable,
)
from csi.core.inventory import Inventory
from csi.core.model import OperationKind, Snapshot, SnapshotId, SnapshotState, Source, SourceKind, Volume, VolumeId
from csi.ports import Put, Remove
from csi.service import finding
from csi.service.copying import Copying, Known, Taken, Task, by_host
from csi.service.journal import Journal
from csi.service.operations import Operations
from csi.service.placing import Placing
from csi.service.restoring import Turns, live_volume, place
from csi.tasks import together


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    snapshots: tuple[Snapshot, ...]
    next_token: str  # empty: that was all


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True, slots=True)
class _Wish:
    """A snapshot that is to be taken."""

    id: SnapshotId
    name: str
    group_id: str = ""
    group_name: str = ""


Wishes = Mapping[VolumeId, _Wish]


class Snapshots:
    """``limit``: of one volume."""

    def __init__(
        self, journal: Journal, copying: Copying, operations: Operations, *, placing: Placing, turns: Turns, limit: int
    ) -> None:
        self._journal = journal
        self._copying = copying
        self._operations = operations
        self._placing = placing
        self._turns = turns
        self._limit = limit

    @property
    def _inventory(self) -> Inventory:
        return self._journal.inventory

    # --- take ---------------------------------------------------------------------------------

    async def create(self, name: str, volume_id: str) -> Snapshot:
        """The snapshot of that name, taken if need be.

        Raises: Conflict if it is of another volume, NotFound, Busy, Unavailable if the volume is not fit for it now,
        TooMany, NoRoom, CannotCopy, and the errors of the hosts.
        """
        known = naming.snapshot_id(name)

        async def work() -> Snapshot:
            found = self._inventory.snapshots.get(known)
            if found is not None and found.volume_id != volume_id:
                raise Conflict("snapshot", name, f"it is of volume {found.volume_id}, asked for {volume_id}")
            if found is not None and found.state is SnapshotState.READY:
                return found
            if found is not None:
                await self._again([found])
            (taken,) = await self._take(known, {VolumeId(volume_id): _Wish(known, name)})
            return taken

        return await self._operations.run(known, "snapshot", (name, volume_id), work)

    async def create_group(self, name: str, volume_ids: Sequence[str]) -> Group:
        """As ``create``, of several volumes at one moment."""
        known, asked = naming.group_id(name), tuple(sorted(set(volume_ids)))
        if not asked:
            raise InvalidRequest("source_volume_ids", (), "at least one is required")

        async def work() -> Group:
            found = self._members(known)
            if found and all(s.state is SnapshotState.READY for s in found):
                of = tuple(sorted(s.volume_id for s in found))
                if of != asked:
                    raise Conflict("snapshot group", name, f"it is of volumes {', '.join(of)}")
                return Group(known, name, found)
            if found:
                await self._again(found)
            wishes = {}
            for one in map(VolumeId, asked):
                member = f"{name} of {live_volume(self._inventory, one).name}"
                wishes[one] = _Wish(naming.member_id(known, one), member, known, name)
            await self._take(known, wishes)
            return Group(known, name, self._members(known))

        return await self._operations.run(known, "snapshot", asked, work)

    async def _again(self, found: Sequence[Snapshot]) -> None:
        """What an earlier try left is undone first; what somebody wants to be gone is not there to be asked for."""
        if any(snapshot.state is SnapshotState.DELETING for snapshot in found):
            raise Busy(f"snapshot {found[0].name!r} is still being deleted; ask again when that is done")
        await self._end(found)

    async def _take(self, name: str, wishes: Wishes) -> tuple[Snapshot, ...]:
        for volume_id in wishes:
            live_volume(self._inventory, volume_id)
        return await self._turns.holding(sorted(wishes), lambda: self._taken(name, wishes))

    async def _taken(self, name: str, wishes: Wishes) -> tuple[Snapshot, ...]:
        """The volumes are ours until this returns."""
        volumes = [live_volume(self._inventory, volume_id) for volume_id in wishes]
        for volume in volumes:
            self._check_limit(volume)
        snapshots = await self._begin(volumes, wishes, await self._copying.prepare(volumes))
        try:
            tasks = [self._task(volume, snapshot) for volume, snapshot in zip(volumes, snapshots, strict=True)]
            taken = await self._copying.take(name, tasks, lambda known: self._seal(snapshots, known))
            return await self._finish(snapshots, taken)
        except Exception as error:
            await self._give_up(snapshots, error)
            raise

    async def _begin(
        self, volumes: Sequence[Volume], wishes: Wishes, taken: Sequence[Sequence[int]]
    ) -> tuple[Snapshot, ...]:
        """Decide and reserve. Between the look and the commit there is no other await."""
        async with self._placing.lock:
            now = self._journal.clock.now()
            snapshots = [
                _planned(wishes[volume.id], volume, sizes, now) for volume, sizes in zip(volumes, taken, strict=True)
            ]
            parts = [copy for snapshot in snapshots for copy in snapshot.copies]
            bricks = [brick.id for volume in volumes for brick in volume.bricks]
            what = f"snapshot of {', '.join(repr(v.name) for v in volumes)}"
            self._placing.pools.check(bricks, what)
            copies.check_room(self._placing.counted(bricks), parts, f"a {what}")
            inventory = await self._journal.store.commit([Put(snapshot) for snapshot in snapshots])
            return tuple(inventory.snapshots[snapshot.id] for snapshot in snapshots)

    def _task(self, volume: Volume, snapshot: Snapshot) -> Task:
        bricks = self._copying.steps.placed(volume)
        targets = place(snapshot, self._copying.steps.instance, self._inventory)
        return Task(volume, tuple(Pair(brick, target) for brick, target in zip(bricks, targets, strict=True)))

    async def _seal(self, snapshots: Sequence[Snapshot], known: Known) -> list[tuple[int, ...]]:
        return await together([self._copying.seal(self._placed(snapshot), known) for snapshot in snapshots])

    async def _finish(self, snapshots: Sequence[Snapshot], taken: Taken[list[tuple[int, ...]]]) -> tuple[Snapshot, ...]:
        """They take what they take, whatever was set aside for them."""
        ready = [
            replace(
                snapshot,
                state=SnapshotState.READY,
                created=taken.moment,
                copies=tuple(
                    replace(copy, footprint=copies.footprint(size))
                    for copy, size in zip(snapshot.copies, found, strict=True)
                ),
            )
            for snapshot, found in zip(snapshots, taken.done, strict=True)
        ]
        inventory = await self._journal.store.commit([Put(snapshot) for snapshot in ready])
        return tuple(inventory.snapshots[snapshot.id] for snapshot in ready)

    async def _give_up(self, snapshots: Sequence[Snapshot], error: Exception) -> None:
        """Raises: Unavailable if what was copied can't be removed now."""
        present = [s for s in (self._inventory.snapshots.get(s.id) for s in snapshots) if s is not None]
        try:
            await self._end(present)
        except Exception as left:
            raise Unavailable(
                f"snapshot {snapshots[0].name!r} could not be taken ({error}) and what was copied for it cannot be "
                f"removed yet ({left}); its space stays reserved and this is tried again"
            ) from left

    def _check_limit(self, volume: Volume) -> None:
        count = sum(1 for snapshot in self._inventory.snapshots.values() if snapshot.volume_id == volume.id)
        if count >= self._limit:
            raise TooMany(
                f"volume {volume.name!r} has {count} snapshots, and {self._limit} is the limit: delete some, or raise "
                "snapshots.per_volume"
            )

    # --- delete -------------------------------------------------------------------------------

    async def delete(self, snapshot_id: str) -> None:
        """Returns when the copies are gone. What does not exist is deleted already.

        Raises: InvalidRequest for one of a group, Busy while a volume is made of it, Incoherent, Unavailable while a
        host is away.
        """
        if SnapshotId(snapshot_id) not in self._inventory.snapshots and naming.is_id(snapshot_id):
            await self._find(snapshot_id)
        found = self._inventory.snapshots.get(SnapshotId(snapshot_id))
        if found is not None and found.group_id:
            raise InvalidRequest(
                "snapshot_id", snapshot_id, f"it is one of group {found.group_id}, which is deleted as a whole"
            )
        if found is not None:
            await self._operations.run(found.id, "delete", found.id, lambda: self._delete([found.id]))

    async def delete_group(self, group_id: str, snapshot_ids: Sequence[str]) -> None:
        if not self._members(group_id) and naming.is_id(group_id):
            await self._find(group_id)
        members = self._members(group_id)
        if not members:
            return
        self._check_members(members, snapshot_ids)
        ids = [snapshot.id for snapshot in members]
        await self._operations.run(group_id, "delete", group_id, lambda: self._delete(ids))

    async def _find(self, wanted: str) -> None:
        """What the records lost, if this snapshot or group is among it."""
        steps = self._copying.steps
        for cluster in self._inventory.hosts_of:
            found = await finding.survey(steps.inventory, steps.instance, steps.backends, cluster)
            if mine := [s for s in (*found.snapshots, *found.remnants) if wanted in (s.id, s.group_id)]:
                await self._journal.store.commit([Put(s) for s in mine])

    async def _delete(self, ids: Sequence[SnapshotId]) -> None:
        found = [s for s in map(self._inventory.snapshots.get, ids) if s is not None]
        if found:
            self._check_unused(found)
            await self._end(found)

    def _check_unused(self, found: Sequence[Snapshot]) -> None:
        """Raises: Busy while a volume is made of one of them."""
        sources = {Source(SourceKind.SNAPSHOT, snapshot.id): snapshot for snapshot in found}
        for operation in self._inventory.operations.values():
            if operation.kind is OperationKind.CREATE and operation.volume.source in sources:
                raise Busy(
                    f"volume {operation.volume.name!r} is being made of snapshot "
                    f"{sources[operation.volume.source].name!r}: ask again when that is done"
                )

    async def _end(self, found: Sequence[Snapshot]) -> None:
        """Evidence first, then the copies, then the records. Raises: Incoherent, Unavailable; it is tried again."""
        untouched = all(s.state is SnapshotState.READY for s in found)
        marked = await self._put(
            [replace(s, state=SnapshotState.DELETING) if s.state is SnapshotState.READY else s for s in found]
        )
        groups = by_host([c for s in marked for c in self._placed(s)], self._copying.backend)
        try:
            await together([backend.verify_copies(host, part) for host, backend, part in groups])
            untouched = False
            await self._relieve(marked)
            await together([backend.destroy_copies(host, part) for host, backend, part in groups])
        except Incoherent as error:
            if untouched:
                await self._put([replace(s, state=SnapshotState.READY) for s in marked])
            else:
                await self._note(marked, error)
            raise
        except DriverError as error:
            await self._note(marked, error)
            raise Unavailable(
                f"snapshot {found[0].name!r} is not gone yet; it waits for its hosts and is tried again: {error}"
            ) from error
        for snapshot in marked:
            await self._journal.store.commit([Remove(snapshot), *self._journal.rest(snapshot.gid)])

    async def _relieve(self, snapshots: Sequence[Snapshot]) -> None:
        """They may have been being taken when we ended: nothing of the hold is left on their volumes."""
        if all(snapshot.state is not SnapshotState.TAKING for snapshot in snapshots):
            return
        found = (self._inventory.volumes.get(known) for known in sorted(s.volume_id for s in snapshots))
        first = snapshots[0]
        await self._copying.relieve(first.group_id or first.id, [volume for volume in found if volume is not None])

    async def _put(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        changed = [s for s in snapshots if self._inventory.snapshots[s.id] != s]
        if changed:
            await self._journal.store.commit([Put(s) for s in changed])
        return [self._inventory.snapshots[s.id] for s in snapshots]

    async def _note(self, snapshots: Sequence[Snapshot], error: Exception) -> None:
        await self._put([replace(s, error=str(error), attempts=s.attempts + 1) for s in snapshots])

    # --- recovery -----------------------------------------------------------------------------

    def unfinished(self) -> set[str]:
        """Snapshots, and groups of them, that are not ready and that nobody is at."""
        snapshots = self._inventory.snapshots.values()
        keys = {s.group_id or s.id for s in snapshots if s.state is not SnapshotState.READY}
        return {key for key in keys if not self._operations.is_running(key)}

    async def resume(self, key: str) -> None:
        """Bring to its end what nobody waits for: it goes, whichever way it was on."""

        async def work() -> None:
            alone = self._inventory.snapshots.get(SnapshotId(key))
            members = self._members(key) if alone is None else (alone,)
            if any(s.state is not SnapshotState.READY for s in members):
                await self._delete([s.id for s in members])

        await self._operations.run(key, "recovery", key, work)

    # --- look ---------------------------------------------------------------------------------

    def get(self, snapshot_id: str) -> Snapshot:
        """Raises: NotFound, also for one that is not taken yet, or being deleted."""
        found = self._inventory.snapshots.get(SnapshotId(snapshot_id))
        if found is None or found.state is not SnapshotState.READY:
            raise NotFound("snapshot", snapshot_id)
        return found

    def get_group(self, group_id: str, snapshot_ids: Sequence[str]) -> Group:
        """Raises: NotFound, InvalidRequest if the members are others."""
        members = self._members(group_id)
        if not members or any(s.state is not SnapshotState.READY for s in members):
            raise NotFound("snapshot group", group_id)
        self._check_members(members, snapshot_ids)
        return Group(group_id, members[0].group_name, members)

    def list(self, token: str, limit: int, *, volume_id: str = "", snapshot_id: str = "") -> SnapshotPage:
        """By id, after ``token`` (the last id of the page before); ``limit`` 0 means all. Raises: InvalidToken."""
        if token and not naming.is_id(token):
            raise InvalidToken(token)
        found = sorted(
            (
                s
                for s in self._inventory.snapshots.values()
                if s.state is SnapshotState.READY
                and s.id > token
                and volume_id in ("", s.volume_id)
                and snapshot_id in ("", s.id)
            ),
            key=lambda s: s.id,
        )
        page = found[:limit] if limit else found
        return SnapshotPage(tuple(page), page[-1].id if len(page) < len(found) else "")

    def _members(self, group_id: str) -> tuple[Snapshot, ...]:
        found = [s for s in self._inventory.snapshots.values() if s.group_id and s.group_id == group_id]
        return tuple(sorted(found, key=lambda s: s.id))

    @staticmethod
    def _check_members(members: Sequence[Snapshot], snapshot_ids: Sequence[str]) -> None:
        if snapshot_ids and sorted(snapshot_ids) != sorted(s.id for s in members):
            raise InvalidRequest(
                "snapshot_ids", tuple(snapshot_ids), f"the group's are {', '.join(s.id for s in members)}"
            )

    def _placed(self, snapshot: Snapshot) -> Sequence[PlacedCopy]:
        return place(snapshot, self._copying.steps.instance, self._inventory)


def _planned(wish: _Wish, volume: Volume, taken: Sequence[int], now: float) -> Snapshot:
    return Snapshot(
        id=wish.id,
        name=wish.name,
        volume_id=volume.id,
        volume_name=volume.name,
        cluster_id=volume.cluster_id,
        size=volume.size,
        spec=volume.spec,
        gid=volume.gid,
        copies=copies.planned(wish.id, volume, taken),
        group_id=wish.group_id,
        group_name=wish.group_name,
        started=now,
    )

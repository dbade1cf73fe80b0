"""The store in custom resources: a commit is durable in etcd when it returns.

The present inventory is kept in memory. The resources are read once, at the start; from then on watches tell of what
others change, and nothing is ever listed for a commit. ``writes.py`` has the order of the writes and what a crash
between two of them leaves; that is repaired at the start.

What can go wrong, and what is done
    a crash between two writes   repaired at the next start, by either controller
    the API server is away       the commit under way goes on until its outcome is known, however long; who waits for it
                                 is told after ``patience`` seconds. Others are refused meanwhile, with nothing written
    a lost answer                the write is sent again; the resource tells who came first (``writing.py``)
    somebody edits a resource    the memory follows; a commit on the older version is stale, as after any other change
    somebody changes a resource between two writes of one commit, or removes one that is still referred to
                                 no commit passes until a restart has read and repaired the state
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

import structlog

from csi.core.errors import DriverError, StaleState, StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Direction, Operation, OperationKind, Record, Volume
from csi.kubernetes.api import Api
from csi.ports import Change, Put
from csi.store import guard
from csi.store.kube import resources, snapshot
from csi.store.kube.kinds import KINDS, Kind, kind_of, shown
from csi.store.kube.snapshot import Key
from csi.store.kube.watching import Seen, Watch
from csi.store.kube.writes import Verb, in_order, repairs
from csi.store.kube.writing import Foreign, Writer

_log = structlog.get_logger(__name__)

# A commit that only waits for its turn is refused before its caller is told that the outcome is open.
_SLACK = 0.5
_UP = "see to it that the API server is up and reachable"


def _always() -> None:
    pass


class KubeStore:
    """Implements ``ports.Store``.

    ``patience``: seconds that a caller waits for its commit. ``permit`` raises when this process must not write.
    """

    def __init__(self, api: Api, patience: float = 20.0, permit: Callable[[], None] = _always) -> None:
        self._api = api
        self._patience = patience
        self._writer = Writer(api, permit)
        self._turn = asyncio.Lock()
        self._inventory: Inventory | None = None
        self._is_open = False
        # The resource version of each record, and of what we removed until the watch has told of it.
        self._revisions: dict[Key, int] = {}
        self._removed: dict[Key, int] = {}
        self._doubt = ""
        self._running: set[asyncio.Task[Inventory]] = set()
        self._watching: list[asyncio.Task[None]] = []
        self._mending: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        if self._is_open:
            raise StateUnusable("the state in custom resources is open already")
        found = await snapshot.load(self._api)
        inventory = Inventory.of(found.records)
        snapshot.check(inventory)
        self._revisions, self._removed, self._doubt = found.revisions, {}, ""
        self._inventory, self._is_open = inventory, True
        for kind in KINDS:
            watch = Watch(self._api, kind, self._heed, self._resync)
            self._watching.append(asyncio.create_task(watch.follow(found.revision), name=f"watch {kind.name}"))
        try:
            await self._repair()
        except BaseException:
            await self.close()
            raise

    @property
    def inventory(self) -> Inventory:
        if self._inventory is None:
            raise StateUnusable("the state in custom resources is not open")
        return self._inventory

    async def commit(self, changes: Sequence[Change]) -> Inventory:
        # In a task of its own: whether the caller is cancelled or gives up, resources and memory move together.
        task = asyncio.create_task(self._commit(tuple(changes)))
        self._running.add(task)
        task.add_done_callback(self._finished)
        await asyncio.wait({task}, timeout=self._patience + _SLACK)
        if not task.done():
            raise StateUnusable(
                f"state in custom resources: the change is not written yet ({self._writer.waiting_for or 'it waits'}), "
                f"and is written when it can be: {_UP}"
            )
        return task.result()

    async def close(self) -> None:
        """Gives the commits that are under way ``patience`` seconds. Fine at any time, also twice."""
        if self._running:
            _, late = await asyncio.wait(set(self._running), timeout=self._patience)
            for commit in late:
                commit.cancel()
        others = [*self._watching, *self._mending]
        self._watching = []
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._is_open = False
        await self._api.close()

    # --- commits ------------------------------------------------------------------------------

    async def _commit(self, changes: tuple[Change, ...]) -> Inventory:
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            raise StateUnusable(
                f"state in custom resources: an earlier change is not written yet ({self._writer.waiting_for}), "
                f"and nothing of this one was written: {_UP}"
            ) from None
        try:
            return await self._commit_in_turn(changes)
        finally:
            self._turn.release()

    async def _commit_in_turn(self, changes: Sequence[Change]) -> Inventory:
        if not self._is_open:
            raise StateUnusable("the state in custom resources is not open")
        if self._doubt:
            raise StateUnusable(f"state in custom resources: {self._doubt}: restart the service, which reads it again")
        step = guard.advance(self.inventory, changes)
        for written, write in enumerate(in_order(step)):
            key = (type(write.record), write.record.id)
            known = self._revisions.get(key, 0)
            try:
                revision = await self._writer.carry_out(write, known)
            except Foreign as foreign:
                if written:
                    self._doubt = f"{foreign} in the middle of a change"
                    raise StateUnusable(f"state in custom resources: {self._doubt}") from foreign
                await self._absorb(kind_of(foreign.record), foreign.record.id, foreign.found)
                raise StaleState(f"{foreign} since it was read") from foreign
            except BaseException as error:
                if written or self._writer.in_doubt:
                    self._doubt = f"a change was cut off ({type(error).__name__}: {error})"
                raise
            if write.verb is Verb.REMOVE:
                del self._revisions[key]
                self._removed[key] = revision
            else:
                self._revisions[key] = revision
                self._removed.pop(key, None)
        self._inventory = step.after
        return step.after

    async def _repair(self) -> None:
        for change in repairs(self.inventory):
            _log.warning("repaired", resource=shown(change.record), by=type(change).__name__.lower())
            await self.commit([change])

    async def _mend(self, record: Record, *, new: bool) -> None:
        """What a controller that no longer leads wrote late. It told nobody, and this one may have other plans."""
        try:
            if new and isinstance(record, Operation) and record.kind is OperationKind.CREATE:
                late = "written by a controller that had lost its lease"
                await self.commit([Put(replace(record, direction=Direction.BACK, error=late))])
            await self._repair()
        except DriverError as error:
            _log.warning("not repaired", resource=shown(record), error=str(error))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    def _finished(self, task: asyncio.Task[Inventory]) -> None:
        self._running.discard(task)
        # Read, so that the failure of a commit that nobody waits for any more is not reported as forgotten.
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("commit failed", error=str(error))

    # --- what others change -------------------------------------------------------------------

    async def _heed(self, seen: Seen) -> None:
        key = (seen.kind.record, seen.resource.metadata.name)
        if self._is_old(key, seen.resource.revision):
            return  # most events are the echo of our own writes, and never wait
        async with self._turn:
            if not self._is_old(key, seen.resource.revision):
                await self._absorb(seen.kind, key[1], None if seen.gone else seen.resource)
            if seen.gone:
                self._removed.pop(key, None)

    async def _resync(self, kind: Kind, revision: int, found: list[resources.Resource]) -> None:
        """After a gap in the watch: ``found`` is all there was at ``revision``."""
        async with self._turn:
            for resource in found:
                if not self._is_old((kind.record, resource.metadata.name), resource.revision):
                    await self._absorb(kind, resource.metadata.name, resource)
            names = {resource.metadata.name for resource in found}
            lost = [key for key, at in self._revisions.items() if key[0] is kind.record and at <= revision]
            for _, name in lost:
                if name not in names:
                    await self._absorb(kind, name, None)
            for key in [key for key, at in self._removed.items() if key[0] is kind.record and at <= revision]:
                del self._removed[key]

    def _is_old(self, key: Key, revision: int) -> bool:
        return revision <= self._revisions.get(key, self._removed.get(key, 0))

    async def _absorb(self, kind: Kind, name: str, found: resources.Resource | None) -> None:
        """Let the memory follow what somebody else did; the turn is held. What makes no sense is left aside."""
        key: Key = (kind.record, name)
        known = self._known(kind, name)
        try:
            record = resources.record(kind, found, known) if found is not None else None
        except ValueError as error:
            _log.error("resource cannot be read and is passed over", resource=f"{kind.name}/{name}", error=str(error))
            return
        if record is None or found is None:
            self._forget(key, known)
            return
        self._revisions[key] = found.revision
        self._removed.pop(key, None)
        if known is not None and replace(record, version=known.version) == known:
            return
        _log.warning("resource was changed by somebody else", resource=f"{kind.name}/{name}")
        version = max(record.version, known.version + 1) if known is not None else record.version
        self._follow([replace(record, version=version)], [])
        if isinstance(record, Operation | Volume):
            self._later(self._mend(record, new=known is None))

    def _forget(self, key: Key, known: Record | None) -> None:
        self._revisions.pop(key, None)
        if known is not None:
            _log.warning("resource was removed by somebody else", resource=shown(known))
            self._follow([], [known])

    def _known(self, kind: Kind, name: str) -> Record | None:
        found: Record | None = getattr(self.inventory, kind.table).get(name)
        return found

    def _follow(self, puts: Sequence[Record], removes: Sequence[Record]) -> None:
        after = self.inventory.with_changes(puts, removes)
        try:
            snapshot.check(after)
        except DriverError as error:
            self._doubt = f"somebody else changed it so that {error}"
            _log.error("state is not whole any more", error=str(error))
            return
        self._inventory = after

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
    a record appears             it waits for what it refers to; of a volume the hosts are asked (``strangers.py``)
    somebody deletes a resource  a finalizer keeps clusters, hosts and devices until their records are removed
                                 (``csi/manifests``)
    ... and its finalizer        if others refer to it, it is written again; else the memory follows
    somebody changes a resource between two writes of one commit
                                 no commit passes until a restart has read and repaired the state
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import structlog

from csi import tasks
from csi.core.errors import DriverError, StaleState, StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Direction, Operation, OperationKind, Record, Volume
from csi.kubernetes.api import Api
from csi.ports import Change, Put
from csi.store import guard
from csi.store.kube import resources, snapshot
from csi.store.kube.clearing import Clearing, parted
from csi.store.kube.kinds import BY_RECORD, KINDS, Kind, kind_of, shown
from csi.store.kube.names import Key, Names, Request
from csi.store.kube.strangers import Strangers
from csi.store.kube.watching import Seen, Watch
from csi.store.kube.writes import Verb, Write, in_order, repairs
from csi.store.kube.writing import Foreign, Target, Writer

_log = structlog.get_logger(__name__)

# A commit that only waits for its turn is refused before its caller is told that the outcome is open.
_SLACK = 0.5
_UP = "see to it that the API server is up and reachable"


Heed = Callable[[Sequence[Record], Sequence[Record]], None]
"""Told what was put and what was removed, when the inventory has it. Must be quick, and must not raise."""


def _always() -> None:
    pass


class KubeStore:
    """Implements ``ports.Store``.

    ``patience``: seconds that a caller waits for its commit. ``permit`` raises when this process must not write.
    """

    def __init__(self, api: Api, patience: float = 20.0, permit: Callable[[], None] = _always) -> None:
        self._api = api
        self._patience = patience
        self._permit = permit
        self._writer = Writer(api, permit)
        self._turn = asyncio.Lock()
        self._inventory: Inventory | None = None
        self._is_open = False
        # The resource version of each record, and of what we removed until the watch has told of it.
        self._revisions: dict[Key, int] = {}
        self._removed: dict[Key, int] = {}
        self._names = Names()
        self._heeding: list[Heed] = []
        self._doubt = ""
        self._running: set[asyncio.Task[Inventory]] = set()
        self._watching: list[asyncio.Task[None]] = []
        self._mending: set[asyncio.Task[None]] = set()
        self._clearing = Clearing(self._clear, self._lose)
        self._strangers = Strangers(self._turn, self._absorb, self._writer, self._later)

    async def open(self) -> None:
        if self._is_open:
            raise StateUnusable("the state in custom resources is open already")
        found = await snapshot.load(self._api)
        inventory = Inventory.of(found.records)
        snapshot.check(inventory)
        self._revisions, self._removed, self._names, self._doubt = found.revisions, {}, found.names, ""
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
        await self._clearing.close(self._patience)
        others = [*self._watching, *self._mending]
        self._watching = []
        await tasks.end(others)
        self._is_open = False
        await self._api.close()

    # --- for those who tell people of the records, or take up what people write --------------------

    def ask_hosts(self, remains: Callable[[Volume], Awaitable[Sequence[str]]]) -> None:
        """``remains``: what there is of a volume. To be called before ``open``."""
        self._strangers.remains = remains

    def listen(self, heed: Heed) -> None:
        """``heed`` is told of every change from now on."""
        self._heeding.append(heed)

    def name_of(self, kind: type[Record], record_id: str) -> str:
        """Of the resource that holds the record."""
        return self._names.of((kind, record_id))

    def record_in(self, kind: type[Record], name: str) -> Record | None:
        """The record that the resource of this name holds."""
        key = self._names.key(kind, name)
        return self._known(key) if key is not None else None

    def taking_up(self, kind: type[Record], record_id: str, request: Request) -> AbstractContextManager[None]:
        """As long as it lasts, a commit that puts this new record makes it out of the request."""
        return self._names.taking_up((kind, record_id), request)

    def revised(self, kind: type[Record], name: str, before: int, after: int) -> None:
        """The resource got a new version on top of ``before``, its record stayed as it was: the echo is old news."""
        key = self._names.key(kind, name)
        if key is not None and self._revisions.get(key) == before:
            self._revisions[key] = after

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
        self._strangers.check(changes)
        step = guard.advance(self.inventory, changes)
        writes, clearing = parted(in_order(step))
        written = 0
        try:
            for write in writes:
                await self._clearing.settled(write.key)
                await self._carry_out(self._writer, write)
                written += 1
            # Another controller takes up what is there after the end of our lease: it has not ended.
            if clearing is not None:
                self._permit()
        except Foreign as foreign:
            if written:
                self._doubt = f"{foreign} in the middle of a change"
                raise StateUnusable(f"state in custom resources: {self._doubt}") from foreign
            await self._absorb(kind_of(foreign.record), self._target(writes[0]).name, foreign.found)
            raise StaleState(f"{foreign} since it was read") from foreign
        except BaseException as error:
            if written or self._writer.in_doubt:
                self._doubt = f"a change was cut off ({type(error).__name__}: {error})"
            raise
        if clearing is not None:
            self._clearing.begin(clearing)
        self._strangers.written(changes)
        self._moved(step.after, step.puts, step.removes)
        await self._strangers.rejoin(lambda: self.inventory)
        return self.inventory

    async def _carry_out(self, writer: Writer, write: Write) -> None:
        key, target = write.key, self._target(write)
        revision = await writer.carry_out(write, target)
        if write.verb is Verb.REMOVE:
            del self._revisions[key]
            self._removed[key] = revision
        else:
            self._revisions[key] = revision
            self._removed.pop(key, None)
            self._names.learn(key, target.name)

    async def _clear(self, write: Write) -> None:
        await self._carry_out(Writer(self._api, self._permit), write)

    def _lose(self, why: str) -> None:
        self._doubt = why
        _log.error("state is not whole any more", error=why)

    def _target(self, write: Write) -> Target:
        key = write.key
        if write.verb is Verb.CREATE:
            request = self._names.request(key)
            return Target(request.name, request.revision, request) if request is not None else Target(key[1])
        return Target(self._names.of(key), self._revisions.get(key, 0))

    def _moved(self, after: Inventory, puts: Sequence[Record], removes: Sequence[Record]) -> None:
        self._inventory = after
        for heed in self._heeding:
            heed(puts, removes)

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
        kind, name = seen.kind, seen.resource.metadata.name
        key = self._names.key(kind.record, name)
        if key is None or self._is_old(key, seen.resource.revision):
            return  # most events are the echo of our own writes, and never wait
        await self._clearing.settled(key)
        async with self._turn:
            key = self._names.key(kind.record, name)  # it may have become a record meanwhile
            if key is None:
                return
            if not self._is_old(key, seen.resource.revision):
                await self._absorb(kind, name, None if seen.gone else seen.resource)
            # An earlier removal says nothing of a record that was made anew and removed again since.
            if seen.gone and seen.resource.revision > self._removed.get(key, 0):
                self._bury(key)

    async def _resync(self, kind: Kind, revision: int, found: list[resources.Resource]) -> None:
        """After a gap in the watch: ``found`` is all there was at ``revision``."""
        async with self._turn:
            await self._clearing.all_settled()
            for resource in found:
                key = self._names.key(kind.record, resource.metadata.name)
                if key is not None and not self._is_old(key, resource.revision):
                    await self._absorb(kind, resource.metadata.name, resource)
            names = {resource.metadata.name for resource in found}
            self._strangers.keep(kind, names)
            lost = [key for key, at in self._revisions.items() if key[0] is kind.record and at <= revision]
            for key in lost:
                if (name := self._names.of(key)) not in names:
                    await self._absorb(kind, name, None)
            for key in [key for key, at in self._removed.items() if key[0] is kind.record and at <= revision]:
                self._bury(key)

    def _bury(self, key: Key) -> None:
        """The watch has told of the removal; until then its echoes must be known by the name that it had."""
        self._removed.pop(key, None)
        if key not in self._revisions and self._known(key) is None:
            self._names.forget(key)

    def _is_old(self, key: Key, revision: int) -> bool:
        return revision <= self._revisions.get(key, self._removed.get(key, 0))

    async def _absorb(self, kind: Kind, name: str, found: resources.Resource | None) -> None:
        """Let the memory follow what somebody else did; the turn is held. What makes no sense is left aside."""
        key = self._names.key(kind.record, name)
        if key is None:
            return  # another resource holds that record
        known = self._known(key)
        try:
            record = resources.record(kind, found, known) if found is not None else None
        except ValueError as error:
            _log.error("resource cannot be read and is passed over", resource=f"{kind.name}/{name}", error=str(error))
            return
        if record is None or found is None:
            self._strangers.forget(kind, name, key[1])
            self._forget(key, known)
            return
        if record.id != key[1]:  # new, and under a name of its own
            key, known = (kind.record, record.id), None
            if self._known(key) is not None:
                return
        if known is None and self._strangers.holds(kind, name, found, record, self.inventory):
            return
        self._revisions[key] = found.revision
        self._removed.pop(key, None)
        self._names.learn(key, name)
        if known is not None and replace(record, version=known.version) == known:
            return
        # People write some kinds; of the others, an administrator should know.
        tell = _log.info if kind.by_people else _log.warning
        tell("resource was changed by somebody else", resource=f"{kind.name}/{name}")
        version = max(record.version, known.version + 1) if known is not None else record.version
        self._follow([replace(record, version=version)], [])
        if isinstance(record, Operation | Volume):
            self._later(self._mend(record, new=known is None))
        await self._strangers.rejoin(lambda: self.inventory)

    def _forget(self, key: Key, known: Record | None) -> None:
        self._revisions.pop(key, None)
        if known is None:
            return
        _log.warning("resource was removed by somebody else", resource=shown(known))
        after = self.inventory.with_changes([], [known])
        try:
            snapshot.check(after)
        except DriverError as error:
            _log.error("resource is still referred to and is written again", resource=shown(known), reason=str(error))
            self._later(self._restore(key))
            return
        self._moved(after, [], [known])

    async def _restore(self, key: Key) -> None:
        """Somebody took a finalizer away by force. Without the record nothing could be done with what refers to it."""
        async with self._turn:
            if key in self._revisions or (record := self._known(key)) is None:
                return
            write = Write(Verb.CREATE, record)
            target = Target(self._names.of(key))
            try:
                try:
                    self._revisions[key] = await self._writer.carry_out(write, target)
                except Foreign as foreign:
                    if foreign.found is None:
                        raise
                    # They applied their manifest again before.
                    request = Request.of(foreign.found)
                    target = Target(request.name, request.revision, request)
                    self._revisions[key] = await self._writer.carry_out(write, target)
            except (Foreign, DriverError) as error:
                self._doubt = f"somebody else removed {shown(record)}, which is still referred to ({error})"
                _log.error("state is not whole any more", error=self._doubt)
                return
            self._names.learn(key, target.name)

    def _known(self, key: Key) -> Record | None:
        found: Record | None = getattr(self.inventory, BY_RECORD[key[0]].table).get(key[1])
        return found

    def _follow(self, puts: Sequence[Record], removes: Sequence[Record]) -> None:
        after = self.inventory.with_changes(puts, removes)
        try:
            snapshot.check(after)
        except DriverError as error:
            self._doubt = f"somebody else changed it so that {error}"
            _log.error("state is not whole any more", error=str(error))
            return
        self._moved(after, puts, removes)

"""Follows what people write of clusters, hosts and devices: takes it up, holds it, lets go of it.

    no record yet        its services are called until they succeed, with longer and longer pauses (``admission.py``)
    another's record     a condition says whose
    a record             carries the finalizer
    a record, deleted    nothing new is placed there; when nothing refers to it any more, its record is removed

Only in the controller that acts. It knows nothing that it could not find again: what is to be done follows from the
resources and the records alone, so it may end at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from enum import Enum

import structlog

from csi import tasks
from csi.core.errors import DriverError, HostUnreachable, InUse, StaleState
from csi.core.model import Cluster, ClusterId, Device, Host, Record
from csi.kubernetes.api import Api, Document
from csi.kubernetes.events import Events, Subject
from csi.kubernetes.following import follow
from csi.manifests import written
from csi.manifests.admission import Admission, Taken, Unresolved
from csi.manifests.patience import Pace, Patience
from csi.manifests.removal import holding
from csi.manifests.written import Manifest
from csi.ports import Clock
from csi.service.topology import Topology
from csi.status.conditions import Condition
from csi.status.waking import Waking
from csi.status.writer import Remark, StatusWriter
from csi.store.kube import KubeStore
from csi.store.kube.kinds import API_VERSION, BY_RECORD, FINALIZER

_log = structlog.get_logger(__name__)

_PACE = Pace()

KINDS: tuple[type[Record], ...] = (Cluster, Host, Device)  # what is referred to comes first

Key = tuple[type[Record], str]
"""The kind of a record, and the name of the resource."""


class Todo(Enum):
    ADMIT = "admit"
    DISOWN = "disown"
    HOLD = "hold"
    LET_GO = "let go"


class ManifestKeeper:
    """``permit`` raises when this process must not write."""

    def __init__(
        self,
        api: Api,
        store: KubeStore,
        topology: Topology,
        status: StatusWriter,
        events: Events,
        *,
        clock: Clock,
        permit: Callable[[], None],
        pace: Pace = _PACE,
    ) -> None:
        self._api = api
        self._store = store
        self._topology = topology
        self._admission = Admission(store, topology)
        self._status = status
        self._events = events
        self._clock = clock
        self._permit = permit
        self._pace = pace
        self._patience: Patience[Key] = Patience(clock, pace)
        self._there: dict[Key, Manifest] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._claimed: set[tuple[type[Record], str]] = set()  # records that are being made
        self._told: dict[Key, str] = {}  # what the last event told of a resource that is not as it should be
        self._unsurveyed: set[ClusterId] = set()  # got devices since their volumes were looked for
        self._woken = Waking(clock)

    def heed(self, puts: Sequence[Record], removes: Sequence[Record]) -> None:
        """What the store did."""
        referred = any(isinstance(record, KINDS) for record in (*puts, *removes))
        if not (referred or (removes and any(manifest.is_deleted for manifest in self._there.values()))):
            return
        self._patience.hurry()
        self._woken.set()

    async def run(self) -> None:
        """For ever; cancel it to end it."""
        following = [asyncio.create_task(self._follow(kind)) for kind in KINDS]
        try:
            while True:
                await self._woken.wait(self._patience.next_due(self._running))
                await self._clock.sleep(self._pace.gather)
                self._woken.clear()
                self.look()
        finally:
            await tasks.end([*following, *self._running.values()])

    async def _follow(self, kind: type[Record]) -> None:
        async for found in follow(self._api, BY_RECORD[kind].path):
            try:
                manifest = written.read(found.document)
            except ValueError as error:
                _log.error("resource cannot be read and is passed over", kind=BY_RECORD[kind].name, error=str(error))
                continue
            key = (kind, manifest.metadata.name)
            if found.gone:
                self._drop(key, manifest)
            else:
                self._there[key] = manifest
            self._woken.set()

    def _drop(self, key: Key, gone: Manifest) -> None:
        """Another one of the same name may have been applied by now."""
        there = self._there.get(key)
        if there is not None and there.metadata.uid == gone.metadata.uid:
            del self._there[key]
            self._settle(key)

    def _settle(self, key: Key) -> None:
        """There is nothing more to tell of it than its record does."""
        self._patience.forget(key)
        self._told.pop(key, None)
        self._status.remark(*key, None)

    # --- what is to be done ---------------------------------------------------------------------------

    def look(self) -> None:
        """Begin all that can be done now; each in a task of its own, since a host may hang."""
        self._patience.keep(self._there)
        for key, manifest in sorted(self._there.items(), key=_in_turn):
            todo = self._todo(key[0], manifest)
            if todo is None:
                self._patience.forget(key)
            elif key not in self._running and self._patience.is_due(key, manifest.metadata.generation):
                self._begin(key, self._attempt(key, todo), f"{todo.value} {key[1]}")
        if self._unsurveyed and not self._running:
            self._begin((Cluster, ""), self._survey(), "survey")

    def _begin(self, key: Key, work: Coroutine[None, None, None], name: str) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            del self._running[key]
            self._woken.set()

        self._running[key] = asyncio.create_task(work, name=name)
        self._running[key].add_done_callback(ended)

    def _todo(self, kind: type[Record], manifest: Manifest) -> Todo | None:
        record = self._store.record_in(kind, manifest.metadata.name)
        if not manifest.is_recorded:
            # It is a record by now, and the news of that is on its way.
            return None if manifest.is_deleted or record is not None else Todo.ADMIT
        if record is None:
            return Todo.DISOWN if self._held_elsewhere(kind, manifest) else None
        if manifest.is_deleted:
            return Todo.LET_GO if manifest.is_held else None
        return None if manifest.is_held else Todo.HOLD

    def _held_elsewhere(self, kind: type[Record], manifest: Manifest) -> bool:
        table = getattr(self._store.inventory, BY_RECORD[kind].table)
        return manifest.spec.id in table

    async def _attempt(self, key: Key, todo: Todo) -> None:
        if (told := self._there.get(key)) is None:
            return
        try:
            # What the watch told may be old, and what is done to hosts should not be done for a thing that is gone.
            manifest = await self._read(key)
            if manifest is None:
                self._drop(key, told)
                return
            if self._todo(key[0], manifest) is not todo:
                return
            match todo:
                case Todo.ADMIT:
                    await self._admit(key, manifest)
                case Todo.DISOWN:
                    self._disown(key, manifest)
                case Todo.HOLD:
                    await self._hold(key, manifest)
                case Todo.LET_GO:
                    await self._let_go(key, manifest)
        except StaleState as stale:
            _log.debug("looked at again", name=key[1], reason=str(stale))
            self._fail(key, self._there.get(key), waits=True)
        except Exception as error:  # noqa: BLE001 - the others must get their turn
            _log.warning(
                "not done yet",
                what=todo.value,
                resource=_shown(key),
                error=str(error),
                exc_info=None if isinstance(error, DriverError) else error,
            )
            self._fail(key, self._there.get(key))

    def _fail(self, key: Key, manifest: Manifest | None, *, waits: bool = False) -> None:
        if manifest is not None:
            self._patience.failed(key, manifest.metadata.generation, waits=waits)

    async def _read(self, key: Key) -> Manifest | None:
        """Raises: ApiUnreachable, ValueError."""
        answer = await self._api.request("GET", f"{BY_RECORD[key[0]].path}/{key[1]}")
        return written.read(answer.body) if answer.status != 404 else None

    # --- doing it -------------------------------------------------------------------------------------

    async def _admit(self, key: Key, manifest: Manifest) -> None:
        try:
            record = self._admission.record(key[0], manifest)
            claim = (key[0], record.id)
            if claim in self._claimed:
                raise Taken("another resource asks for the same and is being taken up")
            self._claimed.add(claim)
            try:
                await self._admission.admit(record, manifest)
            finally:
                self._claimed.discard(claim)
        except StaleState:
            raise
        except DriverError as error:
            await self._refuse(key, manifest, error)
            return
        self._settle(key)
        _log.info("taken up", resource=_shown(key), record=record.id)
        if isinstance(record, Device):
            self._unsurveyed.add(self._store.inventory.hosts[record.host_id].cluster_id)
        await self._tell(key, manifest, "Accepted", "it is a record of the driver now", warning=False)

    async def _refuse(self, key: Key, manifest: Manifest, error: DriverError) -> None:
        waits = isinstance(error, Unresolved | Taken)
        again = self._patience.has_failed(key)
        reason = {Unresolved: "Unresolved", Taken: "AlreadyRecorded"}.get(type(error), type(error).__name__)
        message = _explained(error)
        phase = "Pending" if isinstance(error, Unresolved) else "Refused"
        self._fail(key, manifest, waits=waits)
        self._status.remark(*key, Remark(phase, Condition("Accepted", False, reason, message)))
        # In one manifest with what it waits for, it waits for a moment only.
        if (again or not waits) and self._told.get(key) != message:
            self._told[key] = message
            _log.warning("not taken up", resource=_shown(key), reason=reason, error=str(error))
            await self._tell(key, manifest, reason, message)

    def _disown(self, key: Key, manifest: Manifest) -> None:
        holder = self._store.name_of(key[0], manifest.spec.id)
        message = f"{BY_RECORD[key[0]].name} {holder!r} is the same record: delete this one, it is passed over"
        self._fail(key, manifest, waits=True)
        self._status.remark(*key, Remark("Refused", Condition("Accepted", False, "AlreadyRecorded", message)))

    async def _hold(self, key: Key, manifest: Manifest) -> None:
        held = [*manifest.metadata.finalizers, FINALIZER]
        await self._patch_finalizers(key, manifest, held)

    async def _patch_finalizers(self, key: Key, manifest: Manifest, finalizers: Iterable[str]) -> None:
        before = manifest.metadata.resourceVersion
        patch: list[Document] = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": before},
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        self._permit()
        answer = await self._api.request("PATCH", f"{BY_RECORD[key[0]].path}/{key[1]}", None, patch)
        if answer.good:
            after = written.read(answer.body).metadata.resourceVersion
            self._store.revised(key[0], key[1], int(before), int(after))
        else:
            raise StaleState(answer.reason)

    async def _let_go(self, key: Key, manifest: Manifest) -> None:
        if isinstance(record := self._store.record_in(*key), Host | Device):
            await self._topology.close_off(record)
        if not isinstance(record := self._store.record_in(*key), Cluster | Host | Device):
            return
        if message := holding(record, self._store.inventory):
            await self._keep(key, manifest, message)
            return
        try:
            await self._topology.remove(record)
        except InUse as error:
            await self._keep(key, manifest, str(error))
            return
        except StaleState:
            raise
        except DriverError as error:
            message = f"{error}. It is tried again by itself; state: failed lets go of what is lost, as it is."
            await self._keep(key, manifest, message, reason="NotGivenBack")
            return
        _log.info("let go", resource=_shown(key), record=record.id)
        self._drop(key, manifest)

    async def _keep(self, key: Key, manifest: Manifest, message: str, reason: str = "InUse") -> None:
        self._fail(key, manifest, waits=True)
        self._status.remark(*key, Remark("Removing", Condition("Removable", False, reason, message)))
        # The list gets shorter and shorter; the condition follows it, an event tells once.
        if key not in self._told:
            self._told[key] = message
            await self._tell(key, manifest, reason, message)

    async def _survey(self) -> None:
        clusters, self._unsurveyed = self._unsurveyed, set()
        for cluster in clusters:
            try:
                async for progress in self._topology.adopt(cluster):
                    (_log.error if progress.failed else _log.info)("topology", line=progress.line)
            except DriverError as error:
                _log.error("volumes of a cluster are not looked for", cluster=cluster, error=str(error))

    async def _tell(self, key: Key, manifest: Manifest, reason: str, message: str, *, warning: bool = True) -> None:
        subject = Subject(BY_RECORD[key[0]].name, key[1], "", manifest.metadata.uid, API_VERSION)
        await self._events.tell(subject, reason, message, warning=warning)


def _in_turn(item: tuple[Key, Manifest]) -> tuple[int, str, str]:
    (kind, _), manifest = item
    return KINDS.index(kind), manifest.metadata.creationTimestamp, manifest.metadata.uid


def _shown(key: Key) -> str:
    return f"{BY_RECORD[key[0]].name}/{key[1]}"


def _explained(error: DriverError) -> str:
    if isinstance(error, HostUnreachable):
        return (
            f"{error}; is spec.manage right, does sshd answer there, is the controller's key accepted? "
            "It is tried again by itself"
        )
    return str(error)

"""Writes the ``status`` of the resources, behind the changes of the records and never in their way.

What changed is noted and written a moment later, once, however often it changed; figures that follow every volume are
written seldom. Nothing is kept of what was written: each time the resource is read, and written only if it says
something else. At the start all of them are looked through, so nothing is lost with the process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Protocol

import msgspec
import structlog

from csi.core.errors import DriverError
from csi.core.inventory import Inventory
from csi.core.model import Device, DeviceId, Host, Operation, Record, RestingGid, Volume
from csi.hosts.contacts import Contact, Contacts
from csi.kubernetes.api import Answer, Api, ApiUnreachable, Document
from csi.kubernetes.events import Events, Subject
from csi.ports import Clock
from csi.service.fullness import Health
from csi.status import pools, telling
from csi.status.conditions import Condition, Told, status
from csi.status.waking import Waking
from csi.store.guard import held_bricks
from csi.store.kube.kinds import API_VERSION, BY_RECORD, KINDS, Kind
from csi.store.kube.resources import Metadata
from csi.tasks import together

_log = structlog.get_logger(__name__)

_PAGE = "500"
_AT_ONCE = 4  # requests; it must not take the API server from those who wait for a volume
_OLDER_AT_ONCE = 100  # resources, in each round

Key = tuple[type[Record], str]
"""The kind of a record, and the name of the resource."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: how long changes are gathered, and how long those of figures."""

    gather: float = 1.0
    figures: float = 10.0


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be told of a resource beyond its record."""

    phase: str
    condition: Condition


class Records(Protocol):
    """What is asked of the store."""

    @property
    def inventory(self) -> Inventory: ...

    def name_of(self, kind: type[Record], record_id: str) -> str: ...

    def record_in(self, kind: type[Record], name: str) -> Record | None: ...

    def revised(self, kind: type[Record], name: str, before: int, after: int) -> None: ...


class _Resource(msgspec.Struct):
    metadata: Metadata
    status: dict[str, Any] = {}


class _ListMetadata(msgspec.Struct):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_Resource] = []


_RESOURCES = msgspec.json.Decoder(_Resource)
_PAGES = msgspec.json.Decoder(_Page)


class StatusWriter:
    """``permit`` raises when this process must not write."""

    def __init__(
        self,
        api: Api,
        records: Records,
        events: Events,
        *,
        contacts: Contacts,
        clock: Clock,
        permit: Callable[[], None],
        pace: Pace = Pace(),
    ) -> None:
        self._api = api
        self._records = records
        self._events = events
        self._contacts = contacts
        self._clock = clock
        self._permit = permit
        self._pace = pace
        self._due: dict[Key, None] = {}
        self._older: dict[Key, None] = {}  # what was not told before this process began; it comes last
        self._figures: dict[Key, None] = {}
        self._remarks: dict[Key, Remark] = {}
        self._troubled: dict[str, Operation] = {}  # by id, of which an event is to tell
        self._flipped: dict[str, tuple[Host, Contact]] = {}
        self._silent: set[str] = set()  # hosts of which an event said so
        self._observed: dict[Key, Condition] = {}  # of what no record says
        self._taken: dict[DeviceId, int] = {}  # likewise, in bytes
        self._news: list[tuple[Record, str, str]] = []  # events that are to be told
        self._woken = Waking(clock)

    # --- what there is to tell: none of it waits ------------------------------------------------------

    def heed(self, puts: Sequence[Record], removes: Sequence[Record]) -> None:
        """What the store did."""
        for record in puts:
            if isinstance(record, RestingGid):
                continue
            self._note(record)
            if isinstance(record, Operation):
                if record.error:
                    self._troubled[record.id] = record
                if (volume := self._records.inventory.volumes.get(record.volume.id)) is not None:
                    self._note(volume)
        for record in (*puts, *removes):
            self._note_figures(record)
        self._woken.set()

    def heed_contact(self, host: Host, contact: Contact) -> None:
        """A host came back, or went."""
        if self._records.inventory.hosts.get(host.id) is None:
            return  # it is only asked for yet
        self._flipped[host.id] = (host, contact)
        self._note(host)
        self._woken.set()

    def heed_pools(self, health: Health) -> None:
        """What was seen of the thin pools of a device."""
        if self._records.inventory.devices.get(health.device.id) is None:
            return  # it has been removed since
        key: Key = (Device, self._records.name_of(Device, health.device.id))
        condition = pools.condition(health)
        self._taken[health.device.id] = health.unrecorded
        if self._observed.get(key) != condition:
            self._observed[key] = condition
            self._due[key] = None
            self._note_figures(health.device)  # its cluster has another sum
        self._news += [(health.device, *event) for event in pools.events(health)]
        self._woken.set()

    def remark(self, kind: type[Record], name: str, remark: Remark | None) -> None:
        """None: there is nothing more to say than the record does."""
        key = (kind, name)
        if self._remarks.get(key) == remark:
            return
        if remark is None:
            del self._remarks[key]
        else:
            self._remarks[key] = remark
        self._due[key] = None
        self._woken.set()

    def _note(self, record: Record) -> None:
        self._due[type(record), self._records.name_of(type(record), record.id)] = None

    def _note_figures(self, record: Record) -> None:
        inventory = self._records.inventory
        touched: list[Record | None] = []
        match record:
            case Host(cluster_id=cluster) | Volume(cluster_id=cluster):
                touched = [inventory.clusters.get(cluster)]
            case Device(host_id=host_id) if (host := inventory.hosts.get(host_id)) is not None:
                touched = [inventory.clusters.get(host.cluster_id)]
            case Operation():
                touched = [inventory.clusters.get(record.volume.cluster_id)]
            case _:
                pass
        touched += [inventory.devices.get(brick.device_id) for brick in held_bricks(record)]
        for other in touched:
            if other is not None:
                self._figures[type(other), self._records.name_of(type(other), other.id)] = None

    # --- telling it -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever; cancel it to end it."""
        try:
            async for key in self._outdated():
                self._older[key] = None
        except (DriverError, msgspec.MsgspecError) as error:
            _log.warning("status of older resources is not looked through", error=str(error))
        figures_due = self._clock.monotonic()
        while True:
            if not (self._due or self._older or self._troubled or self._flipped or self._news):
                self._woken.clear()
                await self._woken.wait(figures_due if self._figures else None)
            await self._clock.sleep(self._pace.gather)
            if (now := self._clock.monotonic()) >= figures_due:
                figures_due = now + self._pace.figures
                self._due |= self._figures
                self._figures.clear()
            try:
                await self.tell()
            except (DriverError, msgspec.MsgspecError) as error:
                _log.warning("status not written", error=str(error))

    async def tell(self) -> None:
        """All that there is to tell now, and a part of what is older. Raises: what ``permit`` raises."""
        due, self._due = [*self._due, *islice(self._older, _OLDER_AT_ONCE)], {}
        for key in due:
            self._older.pop(key, None)
        troubled, self._troubled = list(self._troubled.values()), {}
        flipped, self._flipped = list(self._flipped.values()), {}
        news, self._news = self._news, []
        for operation in troubled:
            await self._tell_of_trouble(operation)
        for host, contact in flipped:
            await self._tell_of_contact(host, contact)
        for record, reason, message in news:
            await self.event(record, reason, message)
        while due:
            part, due = due[:_AT_ONCE], due[_AT_ONCE:]
            await together([self._write(key) for key in part])

    async def _outdated(self) -> AsyncIterator[Key]:
        """Everything that does not say what is to be said."""
        for kind in KINDS:
            if kind.record is RestingGid:
                continue
            query = {"limit": _PAGE}
            while True:
                answer = await self._api.request("GET", kind.path, query)
                if not answer.good:
                    _log.warning("status is not looked through", kind=kind.name, error=answer.reason)
                    break
                page = _PAGES.decode(answer.body)
                for found in page.items:
                    if self._wanted(kind, found) not in (None, found.status):
                        yield (kind.record, found.metadata.name)
                if not page.metadata.continue_:
                    break
                query = {"limit": _PAGE, "continue": page.metadata.continue_}

    def _wanted(self, kind: Kind, found: _Resource) -> Document | None:
        name = found.metadata.name
        record, remark = self._records.record_in(kind.record, name), self._remarks.get((kind.record, name))
        told = None
        if record is not None:
            contact = self._contacts.of(record.id) if isinstance(record, Host) else None
            told = telling.told(record, self._records.inventory.counting(self._taken), contact)
            if told is not None and (observed := self._observed.get((kind.record, name))) is not None:
                told = replace(told, conditions=(*told.conditions, observed))
        if remark is not None:
            told = told or Told("", "")
            others = tuple(one for one in told.conditions if one.type != remark.condition.type)
            told = replace(
                told,
                phase=remark.phase,
                message=remark.condition.message,
                conditions=(*others, remark.condition),
            )
        if told is None:
            return None
        now = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return status(told, found.status, found.metadata.generation, now)

    async def _write(self, key: Key) -> None:
        kind = BY_RECORD[key[0]]
        if key not in self._remarks and self._records.record_in(*key) is None:
            return
        path = f"{kind.path}/{key[1]}"
        try:
            found = await self._read(path)
            if found is None or (wanted := self._wanted(kind, found)) is None or wanted == found.status:
                return
            before = found.metadata.resourceVersion
            patch: list[Document] = [
                {"op": "replace", "path": "/metadata/resourceVersion", "value": before},
                {"op": "add", "path": "/status", "value": wanted},
            ]
            self._permit()
            answer = await self._api.request("PATCH", f"{path}/status", None, patch)
        except ApiUnreachable as error:
            self._again(key, str(error))
            return
        if answer.good:
            after = _RESOURCES.decode(answer.body).metadata.resourceVersion
            self._records.revised(key[0], key[1], int(before), int(after))
        elif answer.status in (409, 429) or answer.status >= 500:
            self._again(key, answer.reason)
        elif answer.status != 404:
            _log.warning("status not written", resource=f"{kind.name}/{key[1]}", error=answer.reason)

    def _again(self, key: Key, reason: str) -> None:
        _log.debug("status not written yet", name=key[1], error=reason)
        self._due[key] = None

    async def _read(self, path: str) -> _Resource | None:
        """Raises: ApiUnreachable."""
        answer: Answer = await self._api.request("GET", path)
        return _RESOURCES.decode(answer.body) if answer.good else None

    # --- events ---------------------------------------------------------------------------------------

    async def _tell_of_trouble(self, operation: Operation) -> None:
        if (found := telling.trouble(operation)) is None:
            return
        volume = self._records.inventory.volumes.get(operation.volume.id)
        await self.event(volume or operation, *found)

    async def _tell_of_contact(self, host: Host, contact: Contact) -> None:
        if contact.reached:
            if host.id in self._silent:
                self._silent.discard(host.id)
                await self.event(host, "HostReachable", f"host {host.manage} answers again", warning=False)
        else:
            self._silent.add(host.id)
            await self.event(host, "HostUnreachable", telling.unreachable(host, contact))

    async def event(self, record: Record, reason: str, message: str, *, warning: bool = True) -> None:
        """On the resource of the record. Never raises."""
        kind, name = BY_RECORD[type(record)], self._records.name_of(type(record), record.id)
        try:
            found = await self._read(f"{kind.path}/{name}")
        except ApiUnreachable:
            found = None
        uid = found.metadata.uid if found is not None else ""
        await self._events.tell(Subject(kind.name, name, "", uid, API_VERSION), reason, message, warning=warning)

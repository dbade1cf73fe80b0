"""Records that appear though nobody here wrote them.

One that comes before what it refers to waits for that (``orphans.py``), and the record of a volume for the hosts. A
controller that was cut off may have sent the record of a volume that it had made; if that arrives when its successor
has undone the creation long ago, the record tells of a volume that is not there. Whoever restores a backup writes such
records too, of volumes that are there. The hosts tell one from the other: until they have, the volume is not known and
can't be made; then its record is taken up, or removed. The record alone: on the hosts nothing is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from csi.core import naming
from csi.core.errors import Busy, DriverError
from csi.core.inventory import Inventory
from csi.core.model import Operation, OperationId, OperationKind, Record, Volume, VolumeId
from csi.ports import Change, Put, Remove
from csi.store.kube.kinds import BY_RECORD, Kind
from csi.store.kube.orphans import Orphan, Orphans
from csi.store.kube.resources import Resource
from csi.store.kube.writes import Verb, Write
from csi.store.kube.writing import Foreign, Target, Writer

Absorb = Callable[[Kind, str, Resource | None], Awaitable[None]]
Later = Callable[[Coroutine[None, None, None]], None]

_log = structlog.get_logger(__name__)

_PAUSE = 5.0  # seconds until hosts that did not answer are asked again


@dataclass(frozen=True, slots=True)
class Stranger:
    """``there``: something of the volume is on the hosts. None: that is not known yet."""

    record: Volume
    name: str
    resource: Resource
    there: bool | None = None


class Strangers:
    """``turn`` is that of the commits, held while ``absorb`` takes a record up or ``writer`` removes it; ``later`` runs
    what nobody waits for.

    ``remains`` tells what there is of a volume on its hosts; it raises while one of them is away. Without it all
    records are taken up as they come.
    """

    def __init__(self, turn: asyncio.Lock, absorb: Absorb, writer: Writer, later: Later) -> None:
        self.remains: Callable[[Volume], Awaitable[Sequence[str]]] | None = None
        self._turn = turn
        self._absorb = absorb
        self._writer = writer
        self._later = later
        self._waiting: dict[VolumeId, Stranger] = {}
        self._orphans = Orphans()
        self._begun: set[OperationId] = set()  # creations that this process began

    def check(self, changes: Sequence[Change]) -> None:
        """These are to be written. Raises: Busy if one is the creation of a volume that is waited for."""
        for change in changes:
            match change:
                case Put(Operation(kind=OperationKind.CREATE) as operation):
                    if (found := self._waiting.get(operation.volume.id)) is not None:
                        raise Busy(
                            f"a record of volume {operation.volume.name!r} ({found.name}) has appeared that this "
                            "controller did not write: ask again when the hosts have told whether there is such a "
                            "volume"
                        )
                case _:
                    pass

    def written(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case Put(Operation(kind=OperationKind.CREATE) as operation) if operation.version == 0:
                    self._begun.add(operation.id)
                case Remove(Operation(id=gone)):
                    self._begun.discard(gone)
                case _:
                    pass

    def holds(self, kind: Kind, name: str, resource: Resource, record: Record, inventory: Inventory) -> bool:
        """Whether this new record, which nobody here has written, has to wait."""
        if self._orphans.holds(Orphan(kind, name, resource, record), inventory):
            return True
        return isinstance(record, Volume) and self._waits_for_hosts(record, name, resource, inventory)

    def _waits_for_hosts(self, volume: Volume, name: str, resource: Resource, inventory: Inventory) -> bool:
        waiting = self._waiting.get(volume.id)
        if self.remains is None or (waiting is not None and waiting.there):
            return False
        creation = naming.operation_id(OperationKind.CREATE, volume.id)
        if creation in inventory.operations and creation not in self._begun:
            return False  # its controller came to the end of it, or it is being undone
        # Only this process ends what it began.
        there = False if creation in inventory.operations else None
        self._waiting[volume.id] = Stranger(volume, name, resource, there)
        if waiting is None:
            self._later(self._judge(volume.id, self.remains))
        return True

    def forget(self, kind: Kind, name: str, record_id: str) -> None:
        """Its resource is gone."""
        self._orphans.forget(kind, name)
        self._waiting.pop(VolumeId(record_id), None)

    def keep(self, kind: Kind, names: Set[str]) -> None:
        """After a gap in the watch: these are all that there are of the kind."""
        self._orphans.keep(kind, names)
        if kind.record is Volume:
            self._waiting = {known: one for known, one in self._waiting.items() if one.name in names}

    async def rejoin(self, inventory: Callable[[], Inventory]) -> None:
        """Take up what had to wait for what is there now; the turn is held."""
        while (orphan := self._orphans.next_whole(inventory())) is not None:
            await self._absorb(orphan.kind, orphan.name, orphan.resource)

    async def _judge(self, known: VolumeId, remains: Callable[[Volume], Awaitable[Sequence[str]]]) -> None:
        while (stranger := self._waiting.get(known)) is not None:
            try:
                there = bool(await remains(stranger.record)) if stranger.there is None else stranger.there
                async with self._turn:
                    if self._waiting.get(known) is stranger:  # nobody has changed it meanwhile
                        await self._decide(stranger, there=there)
            except DriverError as error:
                _log.warning("not known whether there is such a volume", resource=stranger.name, reason=str(error))
                await asyncio.sleep(_PAUSE)

    async def _decide(self, stranger: Stranger, *, there: bool) -> None:
        known = stranger.record.id
        if there:
            self._waiting[known] = replace(stranger, there=True)
            await self._absorb(BY_RECORD[Volume], stranger.name, stranger.resource)
        else:
            target = Target(stranger.name, stranger.resource.revision)
            with suppress(Foreign):  # whatever it is now, the watch tells of it
                await self._writer.carry_out(Write(Verb.REMOVE, stranger.record), target)
                _log.warning("record of a volume that is not there was removed", resource=stranger.name)
        self._waiting.pop(known, None)

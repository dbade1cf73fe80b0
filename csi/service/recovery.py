"""Open operations that nobody waits for: after a crash, and while a host is away.

Looks at the journal at start and then on a timer. A creation that was interrupted on its way forward gets
``grace`` seconds, since the caller's retry can resume it; then it is undone. What fails is tried again with
back-off: ``first`` seconds, doubled each time up to ``longest``. Deletions and changes of volumes just go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from csi.core.errors import Busy, DriverError
from csi.core.model import Direction, Operation, OperationKind
from csi.ports import Clock
from csi.service.journal import WATCHES, Journal
from csi.service.operations import Operations
from csi.service.snapshots import Snapshots
from csi.service.succession import Succession
from csi.service.volumes import Volumes
from csi.tasks import together

_log = structlog.get_logger(__name__)

Resume = Callable[[Operation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    interval: float = 5.0
    grace: float = 60.0
    first: float = 5.0
    longest: float = 300.0


class Recovery:
    def __init__(
        self,
        journal: Journal,
        volumes: Volumes,
        snapshots: Snapshots,
        operations: Operations,
        clock: Clock,
        *,
        succession: Succession,
        pace: Pace,
        others: Mapping[OperationKind, Resume],
    ) -> None:
        """``others``: who brings operations to their end that are no creations and deletions of volumes."""
        self._resume = {OperationKind.CREATE: volumes.resume, OperationKind.DELETE: volumes.resume, **others}
        self._succession = succession
        self._journal = journal
        self._snapshots = snapshots
        self._operations = operations
        self._clock = clock
        self._pace = pace
        self._begun = clock.monotonic()
        self._due: dict[str, tuple[float, float]] = {}  # when next, and the pause after that

    async def run(self) -> None:
        """For ever; cancel it to end it."""
        self._begun = self._clock.monotonic()  # a standby is made long before it begins
        while True:
            await self.look()
            await self._clock.sleep(self._pace.interval)

    async def look(self) -> None:
        """Bring every operation that is due one try further."""
        operations = self._journal.inventory.operations
        snapshots = self._snapshots.unfinished()
        for gone in self._due.keys() - {*operations, *snapshots}:
            del self._due[gone]
        tries = [self._try_operation(operation) for operation in operations.values() if self._is_due(operation)]
        tries += [self._try_snapshot(key) for key in snapshots if self._is_time(key)]
        await together(tries)

    def _is_due(self, operation: Operation) -> bool:
        if self._operations.is_running(operation.volume.id) or self._succession.rests(operation):
            return False
        now = self._clock.monotonic()
        forward = operation.kind is OperationKind.CREATE and operation.direction is Direction.FORWARD
        if forward and now < self._begun + self._pace.grace:
            return False
        return self._is_time(operation.id)

    def _is_time(self, key: str) -> bool:
        now = self._clock.monotonic()
        return now >= self._due.get(key, (now, 0.0))[0]

    async def _try_operation(self, operation: Operation) -> None:
        log = _log.bind(operation=f"{operation.kind} {operation.volume.id}", volume=operation.volume.name)

        async def resume() -> None:
            try:
                await self._resume[operation.kind](operation)
            except Busy:
                if operation.kind in WATCHES:
                    self._put_off(operation.id)  # gluster is at it, and to ask it costs more the more it has to do
                raise

        await self._try(operation.id, log, resume)

    async def _try_snapshot(self, key: str) -> None:
        await self._try(key, _log.bind(snapshot=key), lambda: self._snapshots.resume(key))

    async def _try(self, key: str, log: structlog.stdlib.BoundLogger, resume: Callable[[], Awaitable[None]]) -> None:
        try:
            await resume()
        except Busy:
            return
        except Exception as error:
            # Whatever it was, the other operations must get their turn.
            pause = self._put_off(key)
            log.warning(
                "operation still open",
                error=str(error),
                next_try_in=pause,
                exc_info=None if isinstance(error, DriverError) else error,
            )
        else:
            self._due.pop(key, None)
            log.info("operation recovered")

    def _put_off(self, key: str) -> float:
        """Seconds until it is looked at again; twice as many each time."""
        pause = self._due.get(key, (0.0, self._pace.first))[1]
        self._due[key] = (self._clock.monotonic() + pause, min(pause * 2, self._pace.longest))
        return pause

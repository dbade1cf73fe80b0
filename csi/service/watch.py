"""The watch over staged volumes: a client that has died is replaced before anybody asks for its volume again.

The orchestrator does not stage what it takes for staged, so pods would keep a dead mount until they are restarted.
"""

from __future__ import annotations

import asyncio

import structlog

from csi import tasks
from csi.core.errors import Busy, DriverError
from csi.nodeports import Staged
from csi.ports import Clock
from csi.service.publish import Publisher

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 32  # rounds between two tries at a mount that can't be had


class Watch:
    """Looks every ``interval`` seconds."""

    def __init__(self, publisher: Publisher, clock: Clock, interval: float) -> None:
        self._publisher = publisher
        self._clock = clock
        self._interval = interval
        self._round = 0
        self._failures: dict[str, int] = {}  # staging path -> failed tries in a row
        self._next: dict[str, int] = {}  # staging path -> the round of the next try
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self.look()
                await self._clock.sleep(self._interval)
        finally:
            await tasks.end(self._looking.values())

    async def look(self) -> None:
        """Begin a look at every staged volume. One that hangs from an earlier round is not asked again."""
        self._round += 1
        for staged in await self._publisher.staged():
            due = self._next.get(staged.staging, 0) <= self._round
            if due and staged.staging not in self._looking:
                self._looking[staged.staging] = asyncio.create_task(self._look_at(staged), name="watch")

    async def settle(self) -> None:
        """Wait for the looks that have begun."""
        await asyncio.gather(*self._looking.values())

    async def _look_at(self, staged: Staged) -> None:
        path = staged.staging
        try:
            await self._publisher.repair(staged)
            self._failures.pop(path, None)
            self._next.pop(path, None)
        except Busy:
            pass  # whoever is at it sees to it
        except DriverError as error:
            failures = self._failures[path] = self._failures.get(path, 0) + 1
            self._next[path] = self._round + min(2 ** (failures - 1), _LONGEST_PAUSE)
            _log.warning("a mount can't be repaired yet", volume=staged.volume_id, path=path, error=str(error))
        except Exception as error:  # noqa: BLE001 - the watch goes on
            _log.error("a look at a mount failed unforeseen", volume=staged.volume_id, path=path, exc_info=error)
        finally:
            del self._looking[path]

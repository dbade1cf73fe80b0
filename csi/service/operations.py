"""The tasks in which operations run: one per volume, owned by the service and not by the call that asked.

A call awaits its operation shielded: a deadline or a dying client ends the waiting, never the work. The same
request again joins the task that is running; another one on the same volume is told to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog

from csi.core.errors import Busy, DriverError, Unavailable

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    kind: str
    request: object
    task: asyncio.Task[Any]


class Operations:
    """The registry of running operations, by the id of the volume, the snapshot or the group that they are about."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._stopping = False

    def __len__(self) -> int:
        return len(self._running)

    def is_running(self, volume: str, kind: str = "") -> bool:
        """``kind``: that one only."""
        running = self._running.get(volume)
        return running is not None and kind in ("", running.kind)

    async def run(self, volume: str, kind: str, request: object, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Start ``work``, or join it if the same request is being worked on.

        Raises: Busy if another operation on the volume runs, Unavailable if the service is stopping (what
        was begun stays in the journal), and whatever ``work`` raises.
        """
        running = self._running.get(volume)
        if running is None:
            if self._stopping:
                raise Unavailable("the service is stopping; ask again when it is back")
            task = asyncio.create_task(work(), name=f"{kind} {volume}")
            running = self._running[volume] = _Running(kind, request, task)
            task.add_done_callback(lambda done: self._ended(volume, done))
        elif running.kind != kind or running.request != request:
            raise Busy(f"volume {volume} has a {running.kind} operation under way; ask again when it is done")
        else:
            _log.info("joined", operation=running.task.get_name())
        try:
            return cast(T, await asyncio.shield(running.task))
        except asyncio.CancelledError:
            if running.task.cancelled():
                raise Unavailable(f"the service is stopping; the {kind} of volume {volume} goes on later") from None
            raise

    async def stop(self, grace: float) -> None:
        """Give what runs ``grace`` seconds, then park the rest: the journal knows how to go on."""
        self._stopping = True
        tasks = [running.task for running in self._running.values()]
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=grace)
        for task in pending:
            _log.info("operation parked", operation=task.get_name())
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _ended(self, volume: str, task: asyncio.Task[Any]) -> None:
        del self._running[volume]
        if task.cancelled():
            return
        # Looked at here, since the call that asked may be gone; an error nobody sees must not be lost.
        error = task.exception()
        if error is None:
            _log.info("operation done", operation=task.get_name())
        else:
            known = isinstance(error, DriverError)
            _log.warning(
                "operation failed", operation=task.get_name(), error=str(error), exc_info=None if known else error
            )

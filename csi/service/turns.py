"""Taking turns on this node: what touches one volume or one path is done by one task at a time.

The tasks belong to the service, not to the call that asked: a deadline ends the waiting, never the work. The same
request again joins the task that is at it; another one waits for its turn, and is told to come back if that takes long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import structlog

from csi.core.errors import Busy, DriverError, Unavailable

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class Turns:
    """``patience``: seconds that a request waits for others before it is told to come back."""

    def __init__(self, patience: float = 10.0) -> None:
        self._patience = patience
        self._turns: dict[str, _Turn] = {}
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}
        self._stopping = False

    async def run(self, request: Hashable, keys: Iterable[str], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """``keys``: the volume and the paths that the work touches.

        Raises: Busy, Unavailable if the service is stopping, and whatever ``work`` raises.
        """
        task = self._tasks.get(request)
        if task is None:
            if self._stopping:
                raise Unavailable("the service is stopping; ask again when it is back")
            task = self._tasks[request] = asyncio.create_task(self._in_turn(tuple(keys), work))
            task.add_done_callback(lambda done: self._ended(request, done))
        try:
            return cast(T, await asyncio.shield(task))
        except asyncio.CancelledError:
            if task.cancelled():
                raise Unavailable("the service is stopping; ask again when it is back") from None
            raise

    async def stop(self, grace: float) -> None:
        """Give what runs ``grace`` seconds. What is cut off then is found by the next try."""
        self._stopping = True
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=grace)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _in_turn(self, keys: tuple[str, ...], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._patience):
                    for key in sorted(set(keys)):  # one order for all, or two requests could wait for each other
                        await stack.enter_async_context(self._turn(key))
            except TimeoutError:
                raise Busy(f"another operation on {keys[0]} is under way; ask again when it is done") from None
            return await work()

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(key, _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[key]

    def _ended(self, request: Hashable, task: asyncio.Task[Any]) -> None:
        del self._tasks[request]
        # Looked at here, since the call that asked may be gone; an error nobody sees must not be lost.
        if not task.cancelled() and (error := task.exception()) is not None:
            known = isinstance(error, DriverError)
            _log.warning("node operation failed", error=str(error), exc_info=None if known else error)

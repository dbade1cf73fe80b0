"""Tasks of asyncio side by side, and their end.

Not by ``asyncio.gather`` alone, of which two traps were met. Without ``return_exceptions`` it raises the first error
while the other calls go on, with nobody to wait for them. And if whoever waits for it is cancelled in the moment in
which one of them fails, it gives that failure in place of the cancellation, which is lost: a loop that goes on after
failures then goes on for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

_AGAIN = 2.0  # seconds


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Side by side; every one ends before the first error is raised."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes  # type: ignore[return-value]


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """As ``together``, where they give different things."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them until they have ended: what they wait for may lose a cancellation. How they end is of no matter."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that it is not reported as forgotten

"""System calls that may block for long, each in a daemon thread of its own.

Not ``asyncio.to_thread``: its few threads are shared by the whole process, and calls on a mount that hangs would
use them up one by one. ``probe.py`` goes further, with processes, for what can hang without end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def call(work: Callable[[], T], timeout: float) -> T:
    """Raises: TimeoutError, with the work still under way, and whatever ``work`` raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 -- handed to the caller
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="mount", daemon=True).start()
    async with asyncio.timeout(timeout):
        return await future

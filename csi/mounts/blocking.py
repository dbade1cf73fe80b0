"""System calls that may block for long, each in a daemon thread that does nothing else meanwhile.

Not ``asyncio.to_thread``: its few threads are shared by the whole process, and calls on a mount that hangs would
use them up one by one. Here a call takes a thread that is idle, or gets a new one.
``probe.py`` goes further, with processes, for what can hang without end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

from csi.core.errors import MountFailed

T = TypeVar("T")
_Worker = SimpleQueue[Callable[[], None]]
_idle: list[_Worker] = []  # appending and popping are atomic


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

    try:
        worker = _idle.pop()
    except IndexError:
        worker = SimpleQueue()
        threading.Thread(target=_work, args=(worker,), name="mount", daemon=True).start()
    worker.put(run)
    async with asyncio.timeout(timeout):
        return await future


async def promptly(work: Callable[[], T], timeout: float) -> T:
    """For calls about mounts that should end at once. Raises: MountFailed if not, and whatever ``work`` raises."""
    try:
        return await call(work, timeout)
    except TimeoutError as error:
        raise MountFailed(f"a system call about a mount did not end within {timeout:g} s") from error


def _work(jobs: _Worker) -> None:
    while True:
        jobs.get()()
        _idle.append(jobs)

"""Waiting for a mount that somebody else makes, in a namespace whose mounts reach this one a moment later.

The kernel tells of each change of the mount table by POLLPRI on ``/proc/self/mountinfo``. The event loop asks for
POLLIN, which that file has always, so an ``epoll`` of its own stands between: it becomes readable at a change.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from csi.mounts import mountinfo
from csi.mounts.mountinfo import MountEntry


async def wait_for(path: str, is_it: Callable[[MountEntry], bool], timeout: float) -> MountEntry:
    """The mount at ``path`` (resolved) as soon as it is what is waited for. Raises: TimeoutError."""
    with _changes() as changed:
        async with asyncio.timeout(timeout):
            while True:
                changed.clear()  # before the look: what changes after it sets it again
                entry = mountinfo.top(mountinfo.read(), path)
                if entry is not None and is_it(entry):
                    return entry
                await changed.wait()


@contextmanager
def _changes() -> Iterator[asyncio.Event]:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with select.epoll() as poll:
            poll.register(table, select.EPOLLPRI)
            loop.add_reader(poll.fileno(), changed.set)
            try:
                yield changed
            finally:
                loop.remove_reader(poll.fileno())
    finally:
        os.close(table)

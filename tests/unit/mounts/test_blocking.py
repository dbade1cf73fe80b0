"""Blocking calls: results, errors, deadlines; and as many at once as one likes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from csi.mounts import blocking


async def test_results_and_errors() -> None:
    assert await blocking.call(lambda: 6 * 7, 5) == 42
    with pytest.raises(OSError, match="no"):
        await blocking.call(lambda: (_ for _ in ()).throw(OSError("no")), 5)


async def test_forty_that_hang_do_not_keep_another_from_running() -> None:
    release = threading.Event()
    stuck = [asyncio.create_task(blocking.call(release.wait, 30)) for _ in range(40)]
    await asyncio.sleep(0)
    began = time.monotonic()
    assert await blocking.call(lambda: "quick", 5) == "quick"
    assert time.monotonic() - began < 20
    release.set()
    assert await asyncio.gather(*stuck) == [True] * 40


async def test_a_deadline_ends_the_waiting() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        await blocking.call(release.wait, 0.05)
    release.set()
    await asyncio.sleep(0.05)  # the late result finds nobody, and says nothing


async def test_a_thread_that_is_done_is_used_again_and_one_that_hangs_is_not() -> None:
    go = threading.Event()
    with pytest.raises(TimeoutError):
        await blocking.call(go.wait, 0.05)
    before = threading.active_count()
    async with asyncio.timeout(20):
        for _ in range(20):
            assert await blocking.call(lambda: "quick", 5) == "quick"
            while not blocking._idle:  # the answer comes before the thread has put itself back
                await asyncio.sleep(0.001)
    assert threading.active_count() <= before + 1
    go.set()

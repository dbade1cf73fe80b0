"""Something to wait for that others set off, or that time does."""

from __future__ import annotations

import asyncio

from csi.ports import Clock


class Waking:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, until: float | None) -> None:
        """Until it is set, or the monotonic clock says ``until``; None: however long."""
        if until is None:
            await self._event.wait()
            return
        if (left := until - self._clock.monotonic()) <= 0:
            return
        waiting = [asyncio.ensure_future(self._event.wait()), asyncio.ensure_future(self._clock.sleep(left))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

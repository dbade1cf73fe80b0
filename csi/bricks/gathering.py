"""Work on a host that many ask for at once, done for all of them in one call.

Whoever comes while a call to the host is under way waits for the next one, and shares it with all others who wait. A
script that takes a lock and replaces a file costs the same for one entry as for thirty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from csi.core.errors import DriverError
from csi.core.model import Host, HostId, PlacedBrick

Call = Callable[[Host, Sequence[PlacedBrick]], Awaitable[None]]
_Waiting = list[tuple[Sequence[PlacedBrick], asyncio.Future[None]]]


class Gathering:
    """``call`` does the work for any number of bricks of one host, and does no harm if it is done twice."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._waiting: dict[HostId, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        """Returns when it is done for these bricks. Raises: what ``call`` raises for them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(host.id)
        if waiting is not None:
            waiting.append((bricks, done))
        else:
            self._waiting[host.id] = [(bricks, done)]
            task = asyncio.create_task(self._work(host), name=f"gathered work on {host.manage}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await done

    async def _work(self, host: Host) -> None:
        try:
            while batch := self._waiting[host.id]:
                self._waiting[host.id] = []
                await self._carry_out(host, batch)
        finally:
            for _, done in self._waiting.pop(host.id):
                done.cancel()

    async def _carry_out(self, host: Host, batch: _Waiting) -> None:
        error: BaseException | None = None
        try:
            await self._call(host, [brick for bricks, _ in batch for brick in bricks])
        except BaseException as raised:  # noqa: BLE001 -- handed to those who wait
            error = raised
        if isinstance(error, DriverError) and len(batch) > 1:
            for one in batch:  # the fault of one is not the others'
                await self._carry_out(host, [one])
            return
        for _, done in batch:
            _settle(done, error)
        if isinstance(error, asyncio.CancelledError):
            raise error


def _settle(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():  # nobody waits any more
        return
    if error is None:
        done.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        done.cancel()
    else:
        done.set_exception(error)

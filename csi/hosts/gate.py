"""A gate before the hosts: nothing passes it from a controller that does not lead, and what is under way is ended.

``permit`` says at each call whether this process may act, by a clock that goes on while the process is paused; so also
a process that was stopped in between two commands does not send the second. ``lost`` ends the commands that were sent
before: they are cancelled, which ends them on their hosts where the runner can. The hosts keep a gate of their own
(``mandate.py``) for what is on its way then; ``superseded`` is told when that one is found closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from csi.core.command import Result, Script
from csi.core.errors import Superseded, Unavailable
from csi.core.model import Host
from csi.ports import Channel, Runner

T = TypeVar("T")


class Gate:
    """``permit`` raises when this process may not act; ``superseded`` hears of the higher term that a host obeys."""

    def __init__(
        self, permit: Callable[[], None], lost: asyncio.Event, superseded: Callable[[int], None] = lambda _: None
    ) -> None:
        self._permit = permit
        self._lost = lost
        self._superseded = superseded

    async def through(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of ``work``. Raises: Unavailable, before it or in its middle, and what ``work`` raises."""
        try:
            self.check()
        except BaseException:
            work.close()
            raise
        acting, losing = asyncio.ensure_future(work), asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({acting, losing}, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                return acting.result()
            raise Unavailable("this controller lost its lease in the middle of a command; the next one looks after it")
        except Superseded as refusal:
            self._superseded(refusal.term)
            raise
        finally:
            for task in (acting, losing):
                task.cancel()
            await asyncio.gather(acting, losing, return_exceptions=True)

    def check(self) -> None:
        """Raises: Unavailable."""
        self._permit()


class GatedChannel:
    """Implements ``ports.Channel``."""

    def __init__(self, channel: Channel, gate: Gate) -> None:
        self._channel = channel
        self._gate = gate

    async def write(self, data: bytes) -> None:
        self._gate.check()
        await self._channel.write(data)

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        return await self._gate.through(self._channel.read_until(end, timeout, limit))

    async def close(self) -> None:
        await self._channel.close()


class GatedRunner:
    """Implements ``ports.Runner`` over another one."""

    def __init__(self, runner: Runner, gate: Gate) -> None:
        self._runner = runner
        self._gate = gate

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        return await self._gate.through(self._runner.run(host, script))

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        return GatedChannel(await self._gate.through(self._runner.open(host, argv)), self._gate)

    async def close(self) -> None:
        await self._runner.close()

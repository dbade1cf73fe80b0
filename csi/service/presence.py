"""Which hosts answer: so that no brick is planned on one that is away.

A plan that names an absent host cannot be carried out, nor be undone before the host is back. Asking first costs one
round trip, to all hosts at once; whoever answered anything within ``fresh`` seconds is not asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from csi.core.command import Command, Script
from csi.core.errors import DriverError
from csi.core.model import Host, HostId
from csi.ports import Clock, Heard, Runner

_KNOCK = Script((Command(("true",)),), timeout=10.0)


class Presence:
    def __init__(self, runner: Runner, clock: Clock, heard: Heard, fresh: float = 2.0) -> None:
        self._runner = runner
        self._clock = clock
        self._heard = heard
        self._fresh = fresh
        self._asking: dict[HostId, asyncio.Task[bool]] = {}

    async def silent(self, hosts: Iterable[Host]) -> frozenset[HostId]:
        """Those that do not answer."""
        since = self._clock.monotonic() - self._fresh
        unsure = [host for host in hosts if self._heard.heard(host.id) < since]
        # Shielded: others wait for the same answers.
        answers = await asyncio.gather(*(asyncio.shield(self._ask(host)) for host in unsure))
        return frozenset(host.id for host, answered in zip(unsure, answers, strict=True) if not answered)

    def _ask(self, host: Host) -> asyncio.Task[bool]:
        asking = self._asking.get(host.id)
        if asking is None:
            asking = self._asking[host.id] = asyncio.create_task(self._knock(host))
            asking.add_done_callback(lambda _: self._asking.pop(host.id, None))
        return asking

    async def _knock(self, host: Host) -> bool:
        try:
            await self._runner.run(host, _KNOCK)
        except DriverError:
            return False
        return True

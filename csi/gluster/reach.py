"""Whether a host has vanished and its peers have not noticed yet.

glusterd notices after some 23 s that a peer is gone without a word (power cut, link cut), by keepalive probes of
the kernel. A command that it sends to that peer before then stops those probes: it waits for two minutes and more,
keeps its lock, and the peer counts as connected all the while. So before a change every host of the pool is knocked at.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from csi.core.command import Command, Script
from csi.core.errors import DriverError, Unavailable
from csi.core.model import Host, HostId
from csi.ports import Clock, Heard, Peer, Pool, Runner

_KNOCK = Script((Command(("true",)),), timeout=5.0)

FRESH = 1.0
"""Seconds for which a host that has answered is taken to be there still."""

NOTICED = 60.0
"""Seconds of silence after which glusterd must have noticed; if not, it is our own way to the host that is broken."""


class Reach:
    """Remembers since when a host is silent. Who answered anything a moment ago is not knocked at."""

    def __init__(self, runner: Runner, clock: Clock, heard: Heard | None = None) -> None:
        self._runner = runner
        self._clock = clock
        self._heard = heard
        self._silent_since: dict[HostId, float] = {}

    async def check(self, pool: Pool, peers: Callable[[], Awaitable[Sequence[Peer]]], fresh: float = FRESH) -> None:
        """``peers`` asks glusterd. Raises: Unavailable if a host is silent that glusterd takes to be connected."""
        now = self._clock.monotonic()
        heard = self._heard
        doubtful = [host for host in pool.hosts if heard is None or now - heard.heard(host.id) >= fresh]
        if not doubtful:
            return
        await asyncio.gather(*map(self._knock, doubtful))
        since = self._silent_since
        silent = [host for host in doubtful if host.id in since and now - since[host.id] < NOTICED]
        if not silent:
            return
        connected = {name for peer in await peers() if peer.connected for name in peer.hostnames}
        if vanished := [host.manage for host in silent if host.storage in connected]:
            raise Unavailable(
                f"host {', '.join(vanished)} does not answer, and glusterd on the others has not noticed yet: "
                "nothing is changed until it has, within a minute, or the host is back"
            )

    async def _knock(self, host: Host) -> None:
        try:
            await self._runner.run(host, _KNOCK)
        except DriverError:
            answered = self._heard.answered(host.id) if self._heard is not None else -math.inf
            since = self._silent_since.get(host.id)
            if since is None or since < answered:  # or it is silent anew
                self._silent_since[host.id] = self._clock.monotonic()
        else:
            self._silent_since.pop(host.id, None)

"""When hosts were last heard of, from the commands that are sent to them anyway: nobody is asked for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from csi.core.command import Result, Script
from csi.core.errors import CommandFailed, HostUnreachable
from csi.core.model import Host, HostId
from csi.ports import Channel, Runner


@dataclass(frozen=True, slots=True)
class Contact:
    """How the last command to a host went. ``reason``: why it did not get there."""

    reached: bool
    reason: str = ""


Heed = Callable[[Host, Contact], None]
"""Told when a host that was silent answers, and the other way round. Must be quick, and must not raise."""


class Contacts:
    """Implements ``ports.Heard``."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._answered: dict[HostId, float] = {}
        self._last: dict[HostId, Contact] = {}
        self._heeding: list[Heed] = []

    def listen(self, heed: Heed) -> None:
        self._heeding.append(heed)

    def of(self, host: HostId) -> Contact | None:
        """None: nothing was sent to it since this process began."""
        return self._last.get(host)

    def answered(self, host: HostId) -> float:
        return self._answered.get(host, -math.inf)

    def heard(self, host: HostId) -> float:
        last = self._last.get(host)
        return self.answered(host) if last is not None and last.reached else -math.inf

    def note(self, host: Host, contact: Contact) -> None:
        if contact.reached:
            self._answered[host.id] = self._monotonic()
        last = self._last.get(host.id)
        if last is not None and last.reached is contact.reached:
            return
        self._last[host.id] = contact
        for heed in self._heeding:
            heed(host, contact)


class HeardRunner:
    """Implements ``ports.Runner`` over another one."""

    def __init__(self, runner: Runner, contacts: Contacts) -> None:
        self._runner = runner
        self._contacts = contacts

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        try:
            results = await self._runner.run(host, script)
        except HostUnreachable as error:
            self._contacts.note(host, Contact(False, error.reason))
            raise
        except CommandFailed:
            self._contacts.note(host, Contact(True))
            raise
        self._contacts.note(host, Contact(True))
        return results

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        try:
            channel = await self._runner.open(host, argv)
        except HostUnreachable as error:
            self._contacts.note(host, Contact(False, error.reason))
            raise
        self._contacts.note(host, Contact(True))
        return channel

    async def close(self) -> None:
        await self._runner.close()

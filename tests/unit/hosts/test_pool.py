"""How often a host that does not answer is asked."""

from __future__ import annotations

import asyncio

import pytest

from csi.core.command import Command, Script
from csi.core.errors import HostUnreachable
from csi.hosts.pool import HostSessions
from csi.hosts.sessions import Link

SCRIPT = Script((Command(("true",)),))


class Refusing:
    """A host that refuses; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def connect(self) -> Link:
        self.asked += 1
        await asyncio.sleep(0)
        raise HostUnreachable("h", "Connection refused")


async def test_the_pauses_between_tries_grow_and_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Refusing()
    sessions = HostSessions("h", host.connect, 8)
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    pauses = []
    for _ in range(8):
        asked = host.asked
        with pytest.raises(HostUnreachable, match=r"refused$"):
            await sessions.run(SCRIPT)
        assert host.asked == asked + 1
        with pytest.raises(HostUnreachable, match=r"refused; next try in [\d.]+ s") as caught:
            await sessions.run(SCRIPT)
        assert host.asked == asked + 1
        pauses.append(float(str(caught.value).split()[-2]))
        now += pauses[-1] + 0.1
    assert pauses == pytest.approx([0.25, 0.5, 1, 2, 4, 5, 5, 5], abs=0.06)


async def test_callers_at_the_same_time_ask_once_and_are_all_told() -> None:
    host = Refusing()
    sessions = HostSessions("h", host.connect, 8)
    told = await asyncio.gather(*(sessions.run(SCRIPT) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in told} == {HostUnreachable}
    assert host.asked == 1
    await sessions.close()


async def test_closing_while_connecting_tells_those_who_wait() -> None:
    async def never() -> Link:
        await asyncio.sleep(3600)
        raise AssertionError

    sessions = HostSessions("h", never, 8)
    waiting = [asyncio.create_task(sessions.run(SCRIPT)) for _ in range(3)]
    await asyncio.sleep(0.01)
    await sessions.close()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(error) for error in told] == ["host h cannot be reached: the runner is closed"] * 3

"""Work that is gathered: one call for all who wait, each with its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from csi.bricks.gathering import Gathering
from csi.core.errors import Unavailable
from csi.core.model import Host, PlacedBrick
from tests.unit.bricks.test_file import HOST, placed


class Desk:
    """Notes how many bricks each call was for; the first one waits until it is told to go on."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.go = asyncio.Event()
        self.bad: PlacedBrick | None = None

    async def call(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        self.calls.append(len(bricks))
        await self.go.wait()
        if self.bad in bricks:
            raise Unavailable("this one")


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def begin(gathering: Gathering, *bricks: PlacedBrick) -> asyncio.Task[None]:
    task = asyncio.create_task(gathering.add(HOST, bricks))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_those_who_come_meanwhile_share_the_next_call(desk: Desk) -> None:
    gathering = Gathering(desk.call)
    tasks = [await begin(gathering, placed(n)) for n in range(5)]
    assert desk.calls == [1]
    desk.go.set()
    await asyncio.gather(*tasks)
    assert desk.calls == [1, 4]
    await gathering.add(HOST, [placed(0)])
    assert desk.calls == [1, 4, 1]


async def test_the_fault_of_one_is_not_the_others(desk: Desk) -> None:
    gathering = Gathering(desk.call)
    desk.bad = placed(2)
    tasks = [await begin(gathering, placed(n)) for n in range(4)]
    desk.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), Unavailable, type(None)]
    assert desk.calls == [1, 3, 1, 1, 1]


async def test_one_who_goes_away_leaves_the_others_alone(desk: Desk) -> None:
    gathering = Gathering(desk.call)
    tasks = [await begin(gathering, placed(n)) for n in range(3)]
    for task in tasks[:2]:
        task.cancel()
    await asyncio.sleep(0)
    desk.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[2] is None
    assert desk.calls == [1, 2]


class Dead(BaseException):
    """What a test's crash of ours looks like."""


async def test_a_crash_reaches_all_who_wait() -> None:
    async def die(host: Host, bricks: Sequence[PlacedBrick]) -> None:
        raise Dead

    gathering = Gathering(die)
    outcomes = await asyncio.gather(*(gathering.add(HOST, [placed(n)]) for n in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, Dead) for outcome in outcomes)

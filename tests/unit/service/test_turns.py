"""Turns: who joins, who waits, who is told to come back, and that a deadline stops nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from csi.core.errors import Busy, MountFailed, Unavailable
from csi.service.turns import Turns


class Work:
    """Notes when it starts and ends; waits for ``go`` in between."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.go = asyncio.Event()

    def of(self, name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def work() -> str:
            self.notes.append(f"{name} starts")
            await self.go.wait()
            self.notes.append(f"{name} ends")
            return name

        return work


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_request_joins() -> None:
    turns, work = Turns(), Work()
    calls = [asyncio.create_task(turns.run("a", ["v"], work.of("a"))) for _ in range(5)]
    await settle()
    work.go.set()
    assert await asyncio.gather(*calls) == ["a"] * 5
    assert work.notes == ["a starts", "a ends"]
    assert await turns.run("a", ["v"], work.of("a")) == "a"  # later it is done again
    assert len(work.notes) == 4


@pytest.mark.parametrize(("one", "other"), [(["v"], ["v"]), (["v1", "/p"], ["v2", "/p"]), (["/a", "/b"], ["/b", "/a"])])
async def test_others_on_the_same_thing_wait_for_their_turn(one: list[str], other: list[str]) -> None:
    turns, work = Turns(), Work()
    calls = [
        asyncio.create_task(turns.run("a", one, work.of("a"))),
        asyncio.create_task(turns.run("b", other, work.of("b"))),
    ]
    await settle()
    assert work.notes == ["a starts"]
    work.go.set()
    assert await asyncio.gather(*calls) == ["a", "b"]
    assert work.notes == ["a starts", "a ends", "b starts", "b ends"]


async def test_other_things_do_not_wait() -> None:
    turns, work = Turns(), Work()
    calls = [asyncio.create_task(turns.run(name, [name], work.of(name))) for name in "abc"]
    await settle()
    assert len(work.notes) == 3
    work.go.set()
    await asyncio.gather(*calls)


async def test_whoever_waits_too_long_comes_back_later() -> None:
    turns, work = Turns(patience=0.05), Work()
    first = asyncio.create_task(turns.run("a", ["v"], work.of("a")))
    await settle()
    with pytest.raises(Busy, match="another operation on v is under way"):
        await turns.run("b", ["v"], work.of("b"))
    work.go.set()
    assert await first == "a"
    assert await turns.run("b", ["v"], work.of("b")) == "b"


async def test_a_deadline_ends_the_waiting_not_the_work() -> None:
    turns, work = Turns(), Work()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(turns.run("a", ["v"], work.of("a")), 0.02)
    joined = asyncio.create_task(turns.run("a", ["v"], work.of("a")))
    await settle()
    work.go.set()
    assert await joined == "a"
    assert work.notes == ["a starts", "a ends"]


async def test_an_error_reaches_all_who_joined_and_frees_the_turn() -> None:
    turns, work = Turns(), Work()

    async def fails() -> None:
        await work.go.wait()
        raise MountFailed("no")

    calls = [asyncio.create_task(turns.run("a", ["v"], fails)) for _ in range(2)]
    await settle()
    work.go.set()
    assert [str(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == ["no", "no"]
    assert await turns.run("b", ["v"], work.of("b")) == "b"


async def test_stopping_gives_what_runs_its_time_and_starts_nothing() -> None:
    turns, work = Turns(), Work()
    running = asyncio.create_task(turns.run("a", ["v"], work.of("a")))
    await settle()
    asyncio.get_running_loop().call_later(0.05, work.go.set)
    await turns.stop(5)
    assert await running == "a"
    with pytest.raises(Unavailable, match="stopping"):
        await turns.run("b", ["v"], work.of("b"))


async def test_what_does_not_end_in_time_is_cut_off_and_says_so() -> None:
    turns, work = Turns(), Work()
    running = asyncio.create_task(turns.run("a", ["v"], work.of("a")))
    await settle()
    await turns.stop(0.02)
    with pytest.raises(Unavailable, match="stopping"):
        await running
    assert work.notes == ["a starts"]

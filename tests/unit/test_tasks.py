"""Tasks side by side: nothing goes on unseen, and no cancellation is lost."""

from __future__ import annotations

import asyncio

import pytest

from csi import tasks


async def after(turns: int, outcome: object) -> object:
    for _ in range(turns):
        await asyncio.sleep(0)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_calls_side_by_side_give_their_outcomes_in_order() -> None:
    assert await tasks.together([after(3, "a"), after(1, "b")]) == ["a", "b"]
    assert await tasks.both(after(3, "a"), after(1, 2)) == ("a", 2)
    assert await tasks.together([]) == []


async def test_every_call_ends_before_an_error_is_raised() -> None:
    ended = []

    async def slow() -> None:
        await asyncio.sleep(0.01)
        ended.append("slow")

    for calls in (
        tasks.together([after(0, ValueError("bad")), slow()]),
        tasks.both(slow(), after(0, ValueError("bad"))),
    ):
        with pytest.raises(ValueError, match="bad"):
            await calls
    assert ended == ["slow", "slow"]


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_cancellation_comes_through_though_a_call_fails_in_the_same_moment(turns: int) -> None:
    async def wait() -> None:
        with pytest.raises(asyncio.CancelledError):
            await tasks.together([after(3, ValueError("bad")), after(1000, None)])
        with pytest.raises(asyncio.CancelledError):
            await tasks.both(after(3, ValueError("bad")), after(1000, None))

    waiting = asyncio.create_task(wait())
    for _ in range(2):
        await after(turns, None)
        waiting.cancel()
        await after(5, None)
    await waiting


async def test_what_lost_a_cancellation_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN", 0.01)
    lost: list[str] = []

    async def for_ever(losses: int) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if len(lost) == losses:
                    raise
                lost.append("one")

    async def fails() -> None:
        raise ValueError("unforeseen")

    ending = [asyncio.create_task(for_ever(2)), asyncio.create_task(fails()), asyncio.create_task(after(0, None))]
    await asyncio.sleep(0.001)
    async with asyncio.timeout(5):
        await tasks.end(ending)
    assert [task.done() for task in ending] == [True, True, True]
    assert lost == ["one", "one"]
    await tasks.end([])

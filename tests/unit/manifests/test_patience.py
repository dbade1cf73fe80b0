"""Longer and longer pauses, and what cuts them short."""

from __future__ import annotations

import pytest

from csi.manifests.patience import Pace, Patience


class Hand:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def patience(clock: Hand) -> Patience[str]:
    return Patience(clock, Pace(first=5.0, longest=12.0))


def test_pauses_grow_up_to_the_longest(patience: Patience[str], clock: Hand) -> None:
    assert patience.is_due("a", 1)
    for pause in (5.0, 10.0, 12.0, 12.0):
        patience.failed("a", 1)
        assert patience.next_due(()) == clock.at + pause
        clock.at += pause - 0.1
        assert not patience.is_due("a", 1)
        clock.at += 0.1
        assert patience.is_due("a", 1)


def test_another_generation_begins_anew(patience: Patience[str]) -> None:
    patience.failed("a", 1)
    patience.failed("a", 1)
    assert patience.is_due("a", 2)
    assert not patience.has_failed("a")


def test_only_what_waits_for_records_is_hurried(patience: Patience[str]) -> None:
    patience.failed("a", 1)
    patience.failed("b", 1, waits=True)
    patience.hurry()
    assert (patience.is_due("a", 1), patience.is_due("b", 1)) == (False, True)


def test_what_has_gone_is_forgotten(patience: Patience[str]) -> None:
    patience.failed("a", 1)
    patience.failed("b", 1)
    patience.keep({"b": None})
    assert (patience.has_failed("a"), patience.has_failed("b")) == (False, True)


def test_what_runs_is_not_waited_for(patience: Patience[str], clock: Hand) -> None:
    patience.failed("a", 1)
    clock.at += 1
    patience.failed("b", 1)
    assert patience.next_due({"a"}) == clock.at + 5
    assert patience.next_due({"a", "b"}) is None

"""When what failed is tried again: at longer and longer intervals, at once if something else is asked for."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from csi.ports import Clock

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: how long changes are gathered; how soon what failed is tried again, at first and at last."""

    gather: float = 0.5
    first: float = 5.0
    longest: float = 300.0


@dataclass(frozen=True, slots=True)
class _Failed:
    """``generation`` of the resource that failed; ``due`` by the monotonic clock."""

    generation: int
    due: float
    pause: float
    waits: bool  # for another record only, so that a change of the records is a reason to look again


class Patience(Generic[K]):
    def __init__(self, clock: Clock, pace: Pace) -> None:
        self._clock = clock
        self._pace = pace
        self._failed: dict[K, _Failed] = {}

    def failed(self, key: K, generation: int, *, waits: bool = False) -> None:
        before = self._failed.get(key)
        pause = min(before.pause * 2, self._pace.longest) if before is not None else self._pace.first
        self._failed[key] = _Failed(generation, self._clock.monotonic() + pause, pause, waits)

    def has_failed(self, key: K) -> bool:
        return key in self._failed

    def is_due(self, key: K, generation: int) -> bool:
        """Something else is asked for (another generation), it has not failed, or its pause is over."""
        failed = self._failed.get(key)
        if failed is not None and failed.generation != generation:
            self.forget(key)
            return True
        return failed is None or failed.due <= self._clock.monotonic()

    def forget(self, key: K) -> None:
        self._failed.pop(key, None)

    def keep(self, keys: Collection[K]) -> None:
        """Forget all others: they may have gone while they were tried."""
        for key in self._failed.keys() - set(keys):
            del self._failed[key]

    def hurry(self) -> None:
        """The records have changed: what waits for them is due."""
        for key, failed in self._failed.items():
            if failed.waits:
                self._failed[key] = replace(failed, due=0.0)

    def next_due(self, apart_from: Collection[K]) -> float | None:
        """By the monotonic clock; None if nothing waits."""
        return min((failed.due for key, failed in self._failed.items() if key not in apart_from), default=None)

"""How much a pool takes if bricks could be cut at will: the bound that real bricks come close to.

All sets together are one set of width w. A domain gives each set one brick at most, so it gives w bytes of data
at most, less one for each that it gives to arbiters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Room:
    """Usable bytes of a domain, by what they may carry."""

    both: int = 0
    data: int = 0
    arbiter: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.both + other.both, self.data + other.data, self.arbiter + other.arbiter)


def widest(rooms: Sequence[Room], bricks: int, arbiter_share: float | None) -> int:
    """The largest w. ``arbiter_share`` is an arbiter's size beside a data brick's; None: all bricks are equal."""

    def enough(width: int) -> bool:
        if arbiter_share is None:
            return sum([min(room.both + room.data + room.arbiter, width) for room in rooms]) >= bricks * width
        return _arbiters_enough(rooms, width, arbiter_share)

    low, high = 0, sum(room.both + room.data + room.arbiter for room in rooms)
    while low < high:
        middle = (low + high + 1) // 2
        if enough(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _arbiters_enough(rooms: Sequence[Room], width: int, share: float) -> bool:
    """Whether 2w of data and w of arbiters fit.

    With x of data in a domain, at most min(w - x, (arbiter + min(both, both + data - x)) / share) of arbiters fit
    beside it: concave, so taking the data where it costs the fewest arbiters first is best.
    """
    arbiters = 0.0
    pieces: list[tuple[float, float]] = []  # what a byte of data costs in arbiters, and how many bytes at that price
    for room in rooms:
        arbiters += min(width, (room.arbiter + room.both) / share)
        pieces.extend(_pieces(room, width, share))
    wanted = 2.0 * width
    for cost, length in sorted(pieces):
        taken = min(wanted, length)
        wanted -= taken
        arbiters -= taken * cost
    return wanted <= 0.5 and arbiters >= width - 0.5


def _pieces(room: Room, width: int, share: float) -> list[tuple[float, float]]:
    def beside(data: float) -> float:
        return min(width - data, (room.arbiter + min(room.both, room.both + room.data - data)) / share)

    end = float(min(width, room.both + room.data))
    # The bends: data-only room runs out; w - x meets the flat part; w - x meets the falling part.
    bends = {0.0, end, float(room.data), width - (room.arbiter + room.both) / share}
    if share < 1:
        bends.add(((room.arbiter + room.both + room.data) - share * width) / (1 - share))
    inside = sorted(bend for bend in bends if 0 <= bend <= end)
    return [
        ((beside(first) - beside(last)) / (last - first), last - first)
        for first, last in pairwise(inside)
        if last > first
    ]

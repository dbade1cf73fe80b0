"""How many data bricks and arbiters each domain takes, and each of its devices.

Say domain h takes x data bricks and y arbiters, which its devices must hold, with x + y <= s. If the x add up to
2s and the y to s, then s sets can be dealt from them: domains on one side and {data, data, arbiter} on the
other make a bipartite multigraph of degree s, and such a graph is the union of s matchings that cover the
right side (König). So only the counts have to be found. Fewer bricks fit wherever more do; it is enough to
know, for every number of data bricks, the most arbiters that fit beside them: a ``Curve``.

``estimate`` works on a concave curve that is never above the true one, so a greedy choice is right and what it finds
is good. ``exact`` misses nothing, by dynamic programming, and costs accordingly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

Curve = list[int]  # by number of data bricks: the most arbiters beside them
Counts = tuple[int, int]  # data bricks, arbiters

_NEVER = -1
_UNABLE = 1 << 62


@dataclass(slots=True)
class Offer:
    """What a domain offers: ``beside`` arbiters next to all its data bricks, and more for data bricks not taken.

    ``swappable`` of the ``data`` bricks may each be given up for ``instead`` arbiters.
    """

    data: int = 0
    swappable: int = 0
    beside: int = 0
    instead: int = 1

    def arbiters(self, data: int, sets: int) -> int:
        return min(sets - data, self.beside + self.instead * min(self.swappable, self.data - data))


def estimate(offers: Sequence[Offer], sets: int) -> list[Counts] | None:
    """Counts per domain, spread evenly. None if this can't tell."""
    costs = [(_cost(offer, 0, sets), 0, index) for index, offer in enumerate(offers) if offer.data]
    heapify(costs)
    data = [0] * len(offers)
    for _ in range(2 * sets):
        if not costs or costs[0][0] == _UNABLE:
            return None
        index = costs[0][2]
        data[index] += 1
        heapreplace(costs, (_cost(offers[index], data[index], sets), data[index], index))
    most = [offer.arbiters(count, sets) for offer, count in zip(offers, data, strict=True)]
    if sum(most) < sets:
        return None
    slim = [0] * len(offers)
    loads = [(count, index) for index, count in enumerate(data) if most[index]]
    heapify(loads)
    for _ in range(sets):
        index = loads[0][1]
        slim[index] += 1
        load = data[index] + slim[index] if slim[index] < most[index] else 2 * sets
        heapreplace(loads, (load, index))
    return list(zip(data, slim, strict=True))


def _cost(offer: Offer, data: int, sets: int) -> int:
    """The arbiters that one data brick more takes the place of."""
    if data >= min(offer.data, sets):
        return _UNABLE
    return offer.arbiters(data, sets) - offer.arbiters(data + 1, sets)


def exact(domains: Sequence[Sequence[Curve]], sets: int) -> list[Counts] | None:
    """Counts per domain, given the curves of its devices. None only if there are none."""
    curves = [_capped(_tables(devices, sets)[-1], sets) for devices in domains]
    tables = _tables(curves, 2 * sets)
    if tables[-1][2 * sets] < sets:
        return None
    missing = sets
    counts = []
    for curve, data in zip(curves, _trace(curves, tables, 2 * sets), strict=True):
        slim = min(curve[data], missing)
        missing -= slim
        counts.append((data, slim))
    return counts


def share(devices: Sequence[Curve], counts: Counts) -> list[Counts]:
    """What each device of a domain takes of the domain's counts, which must fit."""
    data, slim = counts
    shares = []
    for curve, thick in zip(devices, _trace(devices, _tables(devices, data), data), strict=True):
        here = min(curve[thick], slim)
        slim -= here
        shares.append((thick, here))
    return shares


def _capped(curve: Curve, sets: int) -> Curve:
    """A domain gives each set one brick at most."""
    ends = next((count for count, slim in enumerate(curve) if slim == _NEVER), len(curve))
    return [min(slim, sets - count) for count, slim in enumerate(curve[:ends])]


def _tables(curves: Sequence[Curve], most: int) -> list[Curve]:
    """After each curve: for every total of data bricks up to ``most``, the most arbiters so far."""
    best = [0] + [_NEVER] * most
    tables = [best]
    for curve in curves:
        grown = [_NEVER] * (most + 1)
        for total, slim in enumerate(best):
            if slim == _NEVER:
                continue
            for count, more in enumerate(curve[: most - total + 1]):
                grown[total + count] = max(grown[total + count], slim + more)
        tables.append(grown)
        best = grown
    return tables


def _trace(curves: Sequence[Curve], tables: Sequence[Curve], total: int) -> list[int]:
    """The data bricks per curve that lead to the last table's best value for ``total``."""
    counts = []
    for curve, before, after in zip(reversed(curves), reversed(tables[:-1]), reversed(tables[1:]), strict=True):
        count = next(
            n
            for n in range(min(total, len(curve) - 1) + 1)
            if before[total - n] != _NEVER and before[total - n] + curve[n] == after[total]
        )
        counts.append(count)
        total -= count
    counts.reverse()
    return counts

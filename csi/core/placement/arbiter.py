"""Replica 3 whose third brick is a small arbiter: two sizes, and tags that say which device carries which.

``counts.py`` decides how many bricks of each role every domain takes, and so whether there is a layout. Then a greedy
choice, which fills evenly, is tried; if it gets stuck the sets are dealt from the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from csi.core.inventory import HostSpace
from csi.core.model import Device, VolumeSpec
from csi.core.placement import counts
from csi.core.placement.candidates import Carries, Domain, carries, domain
from csi.core.placement.ledger import Footprints, Ledger, Spot
from csi.core.placement.uniform import slots

DATA_BRICKS = 2

# Dynamic programming beyond (domains + devices) x sets x sets of this is left out: the estimate decides, which misses a
# layout only where pools are so tight that fragments smaller than an arbiter brick matter.
_EXACT_LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class Field:
    """The candidates with what each device may carry, and what the two kinds of brick take."""

    spaces: Sequence[HostSpace]
    domains: Sequence[Domain]
    kinds: Sequence[Sequence[Carries]]  # by host, by device
    data: Footprints
    slim: Footprints

    @classmethod
    def of(cls, spaces: Sequence[HostSpace], spec: VolumeSpec, data: Footprints, slim: Footprints) -> Field:
        return cls(
            spaces=spaces,
            domains=[domain(space.host, spec) for space in spaces],
            kinds=[[carries(space.host, device) for device in space.devices] for space in spaces],
            data=data,
            slim=slim,
        )

    def fitting(self, host: int, free: Sequence[int], need: Footprints, never: Carries) -> Iterator[int]:
        """The devices with room for a brick, but for those that carry ``never`` only."""
        for index, device in enumerate(self.spaces[host].devices):
            if free[index] >= need[device.backend] and self.kinds[host][index] is not never:
                yield index


def choose(
    spaces: Sequence[HostSpace], spec: VolumeSpec, data: Footprints, slim: Footprints, sets: int
) -> list[list[Spot]] | None:
    """A device for every brick, set by set with the arbiter last, or None if there is no layout."""
    field = Field.of(spaces, spec, data, slim)
    found = _counts(field, sets)
    if found is None:
        return None
    return _greedy(field, sets) or _deal(_supply(field, found, sets), sets)


def fits(spaces: Sequence[HostSpace], spec: VolumeSpec, data: Footprints, slim: Footprints, sets: int) -> bool:
    """Whether ``choose`` finds a layout, without making one."""
    return _counts(Field.of(spaces, spec, data, slim), sets) is not None


def _counts(field: Field, sets: int) -> dict[Domain, counts.Counts] | None:
    """What each domain takes, or None if there is no layout."""
    offers = _offers(field)
    if not _possible(field, offers, sets):
        return None
    if (found := counts.estimate(list(offers.values()), sets)) is not None:
        return dict(zip(offers, found, strict=True))
    devices = sum(len(space.devices) for space in field.spaces)
    if (len(offers) + devices) * sets * sets > _EXACT_LIMIT:
        return None
    curves = _curves(field, offers, sets)
    exact = counts.exact(list(curves.values()), sets)
    return None if exact is None else dict(zip(curves, exact, strict=True))


def _possible(field: Field, offers: dict[Domain, counts.Offer], sets: int) -> bool:
    """A cheap test that every layout passes: room for the data bricks, and for all if they were arbiters."""
    thin: dict[Domain, int] = {}
    for space, place in zip(field.spaces, field.domains, strict=True):
        thin[place] = thin.get(place, 0) + slots(space, field.slim, sets)
    return sum(min(offer.data, sets) for offer in offers.values()) >= DATA_BRICKS * sets and (
        sum(min(count, sets) for count in thin.values()) >= (DATA_BRICKS + 1) * sets
    )


def _offers(field: Field) -> dict[Domain, counts.Offer]:
    ratio = min(field.data[backend] // field.slim[backend] for backend in field.data)
    offers: dict[Domain, counts.Offer] = {}
    for host, (space, place) in enumerate(zip(field.spaces, field.domains, strict=True)):
        offer = offers.setdefault(place, counts.Offer(instead=ratio))
        for device, free, kind in zip(space.devices, space.free, field.kinds[host], strict=True):
            slim = field.slim[device.backend]
            if kind is Carries.ARBITER:
                offer.beside += free // slim
                continue
            count, rest = divmod(free, field.data[device.backend])
            offer.data += count
            if kind is Carries.BOTH:
                offer.swappable += count
                offer.beside += rest // slim
    return offers


# --- the even choice ----------------------------------------------------------------------------


def _greedy(field: Field, sets: int) -> list[list[Spot]] | None:
    ledger = Ledger(field.spaces)
    chosen: list[list[Spot]] = []
    for _ in range(sets):
        spots = _greedy_set(field, ledger)
        if spots is None:
            return None
        chosen.append(spots)
    return chosen


def _greedy_set(field: Field, ledger: Ledger) -> list[Spot] | None:
    hosts = range(len(field.spaces))
    thick = [h for h in hosts if any(True for _ in field.fitting(h, ledger.free(h), field.data, Carries.ARBITER))]
    thin = [h for h in hosts if any(True for _ in field.fitting(h, ledger.free(h), field.slim, Carries.DATA))]
    by_fill = ledger.by_fill(thick, field.data)
    carriers = set(thick)
    # The arbiter goes where no data can go, else to the fullest host: it takes little.
    by_need = ledger.by_fill(thin, field.slim)[::-1]
    for host in sorted(by_need, key=lambda h: h in carriers):
        pair = _pair(field, by_fill, host)
        if pair is not None:
            spots = [_put(field, ledger, h, field.data, Carries.ARBITER) for h in pair]
            return [*spots, _put(field, ledger, host, field.slim, Carries.DATA)]
    return None


def _pair(field: Field, by_fill: Sequence[int], arbiter: int) -> tuple[int, int] | None:
    """Two hosts for the data beside the arbiter's: in new zones if there are any, else the least full."""
    picked = [arbiter]
    for new_zones_only in (True, False):
        for host in by_fill:
            if len(picked) == DATA_BRICKS + 1:
                break
            zone = field.spaces[host].host.zone
            if field.domains[host] in [field.domains[h] for h in picked]:
                continue
            if new_zones_only and zone in [field.spaces[h].host.zone for h in picked]:
                continue
            picked.append(host)
    return (picked[1], picked[2]) if len(picked) == DATA_BRICKS + 1 else None


def _put(field: Field, ledger: Ledger, host: int, need: Footprints, never: Carries) -> Spot:
    """On a device that carries nothing else if there is one; of those, the one that is then the least full."""
    free = ledger.free(host)
    fitting = list(field.fitting(host, free, need, never))
    devices = field.spaces[host].devices

    def order(index: int) -> tuple[bool, float, str]:
        left = free[index] - need[devices[index].backend]
        return field.kinds[host][index] is Carries.BOTH, -left / devices[index].total, devices[index].id

    return ledger.put(host, min(fitting, key=order), need)


# --- from counts to sets ----------------------------------------------------------------------


def _curves(field: Field, places: Iterable[Domain], sets: int) -> dict[Domain, list[counts.Curve]]:
    curves: dict[Domain, list[counts.Curve]] = {place: [] for place in places}
    for host, space in enumerate(field.spaces):
        if (place := field.domains[host]) in curves:
            for index, device in enumerate(space.devices):
                curves[place].append(_curve(field, host, index, device, sets))
    return curves


def _supply(field: Field, found: dict[Domain, counts.Counts], sets: int) -> list[_Supply]:
    """The devices for the bricks that every domain takes."""
    taking = [place for place, (data, slim) in found.items() if data or slim]
    spots: dict[Domain, list[Spot]] = {place: [] for place in taking}
    for host, space in enumerate(field.spaces):
        if field.domains[host] in spots:
            spots[field.domains[host]].extend((host, index) for index in range(len(space.devices)))
    supply = []
    for place, curves in _curves(field, taking, sets).items():
        shares = list(zip(spots[place], counts.share(curves, found[place]), strict=True))
        data = [spot for spot, (count, _) in shares for _ in range(count)]
        slim = [spot for spot, (_, count) in shares for _ in range(count)]
        supply.append(_Supply(data, slim))
    return supply


def _curve(field: Field, host: int, index: int, device: Device, sets: int) -> counts.Curve:
    """For each number of data bricks that the device can hold, the most arbiters beside them."""
    free, kind = field.spaces[host].free[index], field.kinds[host][index]
    thick, slim = field.data[device.backend], field.slim[device.backend]
    most = 0 if kind is Carries.ARBITER else min(sets, free // thick)
    if kind is Carries.DATA:
        return [0] * (most + 1)
    return [min(sets, (free - count * thick) // slim) for count in range(most + 1)]


@dataclass(slots=True)
class _Supply:
    """The bricks that one domain gives, not dealt yet."""

    data: list[Spot]
    slim: list[Spot]

    @property
    def left(self) -> int:
        return len(self.data) + len(self.slim)


def _deal(supply: list[_Supply], sets: int) -> list[list[Spot]]:
    """Sets of two data bricks and an arbiter from three domains each; ``counts.py`` tells why there always are some."""
    chosen = []
    for remaining in range(sets, 0, -1):
        # A domain that has as many bricks left as there are sets left must be in each of them.
        due = {index for index, one in enumerate(supply) if one.left == remaining}
        slim_holders = [index for index, one in enumerate(supply) if one.slim]
        data_holders = [index for index, one in enumerate(supply) if one.data]
        arbiter, first, second = next(
            (arbiter, *pair)
            for arbiter in slim_holders
            for pair in combinations(data_holders, DATA_BRICKS)
            if arbiter not in pair and due <= {arbiter, *pair}
        )
        chosen.append([supply[first].data.pop(), supply[second].data.pop(), supply[arbiter].slim.pop()])
    return chosen

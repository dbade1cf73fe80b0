"""Sets of equal bricks: none, replicate, disperse.

A device with f bytes free offers floor(f / brick) slots, and taking one leaves all others as they were. With c
slots in a domain, s sets of k bricks in k distinct domains exist if and only if the sum of min(c, s) over
all domains is at least s * k. That makes a refusal exact, and leaves every choice free as long as
the same still holds for the sets to come.
"""

from __future__ import annotations

from collections.abc import Sequence

from csi.core.inventory import HostSpace
from csi.core.model import VolumeSpec
from csi.core.placement.candidates import Domain, domain
from csi.core.placement.ledger import Footprints, Ledger, Spot


def slots(space: HostSpace, need: Footprints, most: int) -> int:
    """How many bricks the host takes; more than ``most`` need not be told apart."""
    if most == 1:
        return 1 if any(free >= need[backend] for backend, free in space.largest) else 0
    if len(space.largest) == 1:
        backend, largest = space.largest[0]
        footprint = need[backend]
        return sum([free // footprint for free in space.free]) if largest >= footprint else 0
    return sum(free // need[device.backend] for device, free in zip(space.devices, space.free, strict=True))


def fits(spaces: Sequence[HostSpace], spec: VolumeSpec, need: Footprints, sets: int) -> bool:
    """Whether ``choose`` finds a layout, without making one."""
    offers = [slots(space, need, sets) for space in spaces]
    return _room(_per_domain(spaces, spec, offers), sets) >= sets * spec.durability.set_size


def choose(spaces: Sequence[HostSpace], spec: VolumeSpec, need: Footprints, sets: int) -> list[list[Spot]] | None:
    """A device for every brick, set by set, or None if there is no layout."""
    width = spec.durability.set_size
    offers = [slots(space, need, sets) for space in spaces]
    per_domain = _per_domain(spaces, spec, offers)
    if _room(per_domain, sets) < sets * width:
        return None
    ledger = Ledger(spaces)
    chosen = []
    for coming in range(sets - 1, -1, -1):  # sets after this one
        open_hosts = [host for host, offer in enumerate(offers) if offer]
        picked = _pick(ledger.by_fill(open_hosts, need), spaces, spec, per_domain, coming)
        for host in picked:
            offers[host] -= 1
            per_domain[domain(spaces[host].host, spec)] -= 1
        chosen.append([ledger.take(host, need) for host in picked])
    return chosen


def _pick(
    hosts: Sequence[int], spaces: Sequence[HostSpace], spec: VolumeSpec, per_domain: dict[Domain, int], coming: int
) -> list[int]:
    """The hosts of one set: in as many zones as can be had, then the first of ``hosts``, never at later sets' cost.

    A domain with more slots than there are sets to come gives one for nothing; any other costs one of ``spare``.
    """
    width = spec.durability.set_size
    spare = _room(per_domain, coming) - coming * width
    picked: list[int] = []
    domains: set[Domain] = set()
    zones: set[int] = set()
    for new_zones_only in (True, False):
        for index in hosts:
            if len(picked) == width:
                return picked
            host = spaces[index].host
            place = domain(host, spec)
            if place in domains or (new_zones_only and host.zone in zones):
                continue
            if per_domain[place] <= coming:
                if not spare:
                    continue
                spare -= 1
            picked.append(index)
            domains.add(place)
            zones.add(host.zone)
    return picked


def _per_domain(spaces: Sequence[HostSpace], spec: VolumeSpec, offers: Sequence[int]) -> dict[Domain, int]:
    per_domain: dict[Domain, int] = {}
    for space, offer in zip(spaces, offers, strict=True):
        if offer:
            place = domain(space.host, spec)
            per_domain[place] = per_domain.get(place, 0) + offer
    return per_domain


def _room(per_domain: dict[Domain, int], sets: int) -> int:
    """Slots that ``sets`` sets can use between them."""
    return sum([slots if slots < sets else sets for slots in per_domain.values()])

"""Placement against an exhaustive search on small pools, which is written without any of placement's code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csi.core import sizes
from csi.core.errors import NoSpace, SizeOutOfRange
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Backend,
    BrickRole,
    Device,
    DeviceId,
    Durability,
    Host,
    Protection,
    TagRule,
    VolumeSpec,
    ZoneChecking,
)
from csi.core.placement import Layout, Limits, PlacementRequest, available, largest, place
from csi.core.sizes import GIB, GRAIN, MIB
from tests.unit.core.inventories import ARBITER, CLUSTER, NONE, REPLICA3, device, host, inventory, spec, volume

DURABILITIES = (
    NONE,
    Durability(Protection.REPLICATE, 1, 1),
    REPLICA3,
    ARBITER,
    ARBITER,
    Durability(Protection.DISPERSE, 2, 1),
    Durability(Protection.DISPERSE, 3, 1),
)


# --- the rules, and the search ----------------------------------------------------------------


def tag(owner: Host, disk: Device, key: str) -> str:
    return {**owner.tags, **disk.tags}.get(key, "")


def may_carry(owner: Host, disk: Device, wanted: VolumeSpec, role: BrickRole) -> bool:
    if owner.state is not Availability.ONLINE or disk.state is not Availability.ONLINE:
        return False
    if wanted.zones and owner.zone not in wanted.zones:
        return False
    if wanted.device_tag is not None and not wanted.device_tag.admits({**owner.tags, **disk.tags}):
        return False
    if not wanted.durability.arbiter:
        return True
    return tag(owner, disk, "arbiter") != ("disabled" if role is BrickRole.ARBITER else "required")


def roles(wanted: VolumeSpec) -> list[BrickRole]:
    width = wanted.durability.set_size
    return [BrickRole.ARBITER if wanted.durability.arbiter and i == width - 1 else BrickRole.DATA for i in range(width)]


def cuts(request: PlacementRequest) -> Iterator[tuple[int, int]]:
    """(sets, usable size of a data brick) that the limits allow."""
    limits, durability = request.limits, request.spec.durability
    for sets in range(1, limits.max_bricks // durability.set_size + 1):
        share = -(-request.size // (sets * durability.data))
        least = sizes.SMALLEST_VOLUME if sets == 1 else max(sizes.SMALLEST_VOLUME, limits.min_brick)
        if max(share, least) <= limits.max_brick:
            yield sets, max(share, least)


def brick_size(wanted: VolumeSpec, usable: int, role: BrickRole) -> int:
    size = sizes.filesystem_size(usable)
    if role is BrickRole.DATA:
        return size
    return sizes.filesystem_size(sizes.arbiter_size(sizes.usable_size(size), wanted.average_file_size))


def fewest_sets(records: list[Host | Device], request: PlacementRequest) -> int | None:
    """By trying every device for every brick."""
    wanted = request.spec
    hosts = {r.id: r for r in records if isinstance(r, Host)}
    disks = [r for r in records if isinstance(r, Device)]
    strict = wanted.zone_checking is ZoneChecking.STRICT
    domains = [hosts[d.host_id].zone if strict else d.host_id for d in disks]
    for sets, usable in cuts(request):
        needs = [
            (role, [sizes.footprint(d.backend, brick_size(wanted, usable, role), wanted.snap_factor) for d in disks])
            for role in roles(wanted)
        ]

        @cache
        def works(free: tuple[int, ...], left: int, taken: frozenset[object], at: int, needs=needs) -> bool:  # type: ignore[no-untyped-def]
            if at == len(needs):
                left, taken, at = left - 1, frozenset(), 0
            if left == 0:
                return True
            role, footprints = needs[at]
            return any(
                free[i] >= footprints[i]
                and domains[i] not in taken
                and may_carry(hosts[disk.host_id], disk, wanted, role)
                and works((*free[:i], free[i] - footprints[i], *free[i + 1 :]), left, taken | {domains[i]}, at + 1)
                for i, disk in enumerate(disks)
            )

        if works(tuple(d.total for d in disks), sets, frozenset(), 0):
            return sets
    return None


def check_rules(state: Inventory, request: PlacementRequest, layout: Layout) -> None:
    wanted, limits = request.spec, request.limits
    taken: Counter[DeviceId] = Counter()
    for places in layout.sets:
        assert [spot.role for spot in places] == roles(wanted)
        assert len({spot.host.id for spot in places}) == len(places)
        if wanted.zone_checking is ZoneChecking.STRICT:
            assert len({spot.host.zone for spot in places}) == len(places)
        for spot in places:
            assert spot.device == state.devices[spot.device.id]
            assert spot.host == state.hosts[spot.device.host_id]
            assert may_carry(spot.host, spot.device, wanted, spot.role)
            assert spot.size >= sizes.XFS_MINIMUM
            assert spot.footprint == sizes.footprint(spot.device.backend, spot.size, wanted.snap_factor)
            taken[spot.device.id] += spot.footprint
    assert all(state.free(state.devices[disk]) >= used for disk, used in taken.items())
    assert sum(len(places) for places in layout.sets) <= limits.max_bricks
    data = {spot.size for places in layout.sets for spot in places if spot.role is BrickRole.DATA}
    assert len(data) == 1
    usable = sizes.usable_size(data.pop())
    assert usable * len(layout.sets) * wanted.durability.data >= request.size
    assert len(layout.sets) == 1 or usable >= limits.min_brick


# --- pools and requests of any kind -----------------------------------------------------------

STATES = st.sampled_from([Availability.ONLINE] * 14 + [Availability.OFFLINE, Availability.FAILED])
TAGS = st.sampled_from(
    [{}] * 5
    + [{"tier": "a"}, {"tier": "b"}, {"arbiter": "required"}, {"arbiter": "disabled"}, {"arbiter": "supported"}]
)


@st.composite
def pools(draw: st.DrawFn) -> list[Host | Device]:
    records: list[Host | Device] = []
    zones = draw(st.integers(1, 6))
    for number in range(draw(st.sampled_from([0, 2, 3, 3, 4, 4, 5, 6]))):
        owner = host(number, draw(st.integers(1, zones)), state=draw(STATES), tags=draw(TAGS))
        records.append(owner)
        for disk in range(draw(st.sampled_from([0, 1, 1, 1, 2, 2]))):
            backend = draw(st.sampled_from([Backend.FILE, Backend.FILE, Backend.LVM]))
            total = draw(st.integers(2, 20)) * 152 * MIB
            records.append(device(owner, disk, total, backend=backend, state=draw(STATES), tags=draw(TAGS)))
    return records


@st.composite
def requests(draw: st.DrawFn) -> PlacementRequest:
    durability = draw(st.sampled_from(DURABILITIES))
    wanted = spec(
        durability,
        zone_checking=draw(st.sampled_from([ZoneChecking.NONE] * 3 + [ZoneChecking.STRICT])),
        device_tag=draw(st.sampled_from([None] * 4 + [TagRule("tier", "a"), TagRule("tier", "a", equal=False)])),
        snap_factor=draw(st.sampled_from([1.0, 1.0, 1.3])),
        zones=draw(st.sampled_from([()] * 4 + [(1,), (1, 2, 3), (2, 3, 9)])),
        average_file_size=draw(st.sampled_from([1024, 1500, 2048, 64 * 1024])),
    )
    limits = Limits(
        min_brick=draw(st.sampled_from([1, 260, 400])) * MIB,
        max_brick=draw(st.sampled_from([1000 * MIB, 4 * GIB])),
        max_bricks=durability.set_size * draw(st.sampled_from([1, 3, 4, 4])),
    )
    return PlacementRequest(durability.data * draw(st.integers(1, 24)) * 97 * MIB, wanted, limits)


# --- placement --------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(pools(), requests())
def test_it_places_whenever_an_exhaustive_search_does_and_with_as_few_sets(
    records: list[Host | Device], request: PlacementRequest
) -> None:
    state = inventory(*records)
    needed = fewest_sets(records, request)
    try:
        layout = place(state, CLUSTER, request)
    except NoSpace:
        assert needed is None
    except SizeOutOfRange:
        assert next(cuts(request), None) is None
    else:
        check_rules(state, request, layout)
        assert len(layout.sets) == needed


@settings(max_examples=150, deadline=None)
@given(pools(), requests())
def test_the_largest_fits_and_one_grain_more_does_not(records: list[Host | Device], request: PlacementRequest) -> None:
    state = inventory(*records)
    most = largest(state, CLUSTER, request)
    if most:
        fitting = PlacementRequest(most, request.spec, request.limits)
        check_rules(state, fitting, place(state, CLUSTER, fitting))
        assert available(state, CLUSTER, request) >= most - 2 * GRAIN * request.spec.durability.data
    with pytest.raises((NoSpace, SizeOutOfRange)) as refused:
        place(state, CLUSTER, PlacementRequest(most + GRAIN, request.spec, request.limits))
    if isinstance(refused.value, NoSpace):
        assert refused.value.largest == most


@settings(max_examples=100, deadline=None)
@given(pools(), requests(), st.randoms(use_true_random=False))
def test_the_order_of_the_records_makes_no_difference(
    records: list[Host | Device], request: PlacementRequest, source: object
) -> None:
    mixed = list(records)
    source.shuffle(mixed)  # type: ignore[attr-defined]
    answers: list[Layout | str] = []
    for state in (inventory(*records), inventory(*mixed)):
        try:
            answers.append(place(state, CLUSTER, request))
        except (NoSpace, SizeOutOfRange) as refused:
            answers.append(str(refused))
    assert answers[0] == answers[1]


@settings(max_examples=40, deadline=None)
@given(pools(), st.lists(requests(), min_size=1, max_size=6))
def test_what_earlier_volumes_took_is_respected(records: list[Host | Device], wanted: list[PlacementRequest]) -> None:
    state = inventory(*records)
    for number, request in enumerate(wanted):
        try:
            layout = place(state, CLUSTER, request)
        except (NoSpace, SizeOutOfRange):
            continue
        check_rules(state, request, layout)
        state = state.with_changes([volume(number, request, layout)], ())

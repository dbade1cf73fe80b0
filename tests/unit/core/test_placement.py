"""Placement against an exhaustive search on small pools, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fill import fill
from csi.core import sizes
from csi.core.errors import NoSpace, SizeOutOfRange
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Backend,
    Brick,
    BrickId,
    BrickRole,
    Cluster,
    ClusterId,
    Device,
    DeviceId,
    Durability,
    Gid,
    Host,
    HostId,
    Protection,
    TagRule,
    Volume,
    VolumeId,
    VolumeSpec,
    ZoneChecking,
)
from csi.core.placement import Layout, Limits, PlacementRequest, available, largest, place
from csi.core.sizes import GIB, GRAIN, MIB

CLUSTER = ClusterId("c")
REPLICA3 = Durability(Protection.REPLICATE, 1, 2)
ARBITER = Durability(Protection.REPLICATE, 1, 2, arbiter=True)
NONE = Durability(Protection.NONE)
DURABILITIES = (
    NONE,
    Durability(Protection.REPLICATE, 1, 1),
    REPLICA3,
    ARBITER,
    ARBITER,
    Durability(Protection.DISPERSE, 2, 1),
    Durability(Protection.DISPERSE, 3, 1),
)


def host(number: int, zone: int = 1, **changes: object) -> Host:
    name = f"h{number}"
    return Host(HostId(name), CLUSTER, name, name, zone, **changes)  # type: ignore[arg-type]


def device(owner: Host, number: int, total: int, **changes: object) -> Device:
    path = f"/d{number}"
    backend = changes.pop("backend", Backend.FILE)
    return Device(DeviceId(owner.id + path), owner.id, path, backend, total, **changes)  # type: ignore[arg-type]


def pool(hosts: int, devices: int, total: int, zones: int = 1) -> list[Host | Device]:
    made = [host(number, 1 + number % zones) for number in range(hosts)]
    return [*made, *(device(owner, number, total) for owner in made for number in range(devices))]


def inventory(*records: Host | Device) -> Inventory:
    return Inventory.of([Cluster(CLUSTER), *records])


def spec(durability: Durability = REPLICA3, **changes: object) -> VolumeSpec:
    return VolumeSpec(durability, **changes)  # type: ignore[arg-type]


def volume(number: int, request: PlacementRequest, layout: Layout) -> Volume:
    bricks = tuple(
        Brick(
            BrickId(f"{number}-{s}-{i}"), s, i, spot.host.id, spot.device.id, spot.size, spot.footprint, "", spot.role
        )
        for s, places in enumerate(layout.sets)
        for i, spot in enumerate(places)
    )
    name = f"v{number}"
    return Volume(VolumeId(name), name, name, CLUSTER, request.size, request.spec, bricks, Gid(2000 + number))


# --- the rules, and an exhaustive search, written again without any of placement's code -------


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
    answers = []
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


# --- the rules one by one ---------------------------------------------------------------------


def test_one_set_as_long_as_it_fits() -> None:
    layout = place(inventory(*pool(3, 4, 10 * GIB)), CLUSTER, PlacementRequest(9 * GIB, spec()))
    assert len(layout.sets) == 1
    assert {sizes.usable_size(spot.size) for spot in layout.sets[0]} == {9 * GIB}


@pytest.mark.parametrize("sets", [2, 3, 5, 7])
def test_any_number_of_sets(sets: int) -> None:
    layout = place(inventory(*pool(3, 8, 10 * GIB)), CLUSTER, PlacementRequest(sets * 9 * GIB, spec()))
    assert len(layout.sets) == sets


def test_later_sets_are_not_robbed_by_spreading() -> None:
    """Every set needs the two hosts of zone 1 and one other; taking one host of each zone would use up zone 2 and 3."""
    owners = [host(0, zone=1), host(1, zone=1), host(2, zone=2), host(3, zone=3)]
    room = {"h0": 2, "h1": 2, "h2": 1, "h3": 1}
    state = inventory(*owners, *(device(o, n, 2 * GIB) for o in owners for n in range(room[o.id])))
    layout = place(state, CLUSTER, PlacementRequest(3 * GIB, spec(), Limits(max_brick=3 * GIB // 2)))
    assert [len({spot.host.id for spot in places}) for places in layout.sets] == [3, 3]


def test_a_small_volume_gets_the_least_brick_that_xfs_takes() -> None:
    layout = place(inventory(*pool(3, 1, GIB)), CLUSTER, PlacementRequest(MIB, spec()))
    assert [spot.size for spot in layout.sets[0]] == [sizes.XFS_MINIMUM] * 3


def test_every_disperse_brick_carries_its_share() -> None:
    wanted = spec(Durability(Protection.DISPERSE, 4, 2))
    layout = place(inventory(*pool(6, 1, 10 * GIB)), CLUSTER, PlacementRequest(16 * GIB, wanted))
    assert {sizes.usable_size(spot.size) for spot in layout.sets[0]} == {4 * GIB}
    assert len(layout.sets[0]) == 6


def test_zones_are_spread_over_where_that_is_not_asked_for() -> None:
    crowded = [host(n, zone=1) for n in range(4)] + [host(4, zone=2), host(5, zone=3)]
    state = inventory(*crowded, *(device(owner, 0, 100 * GIB) for owner in crowded))
    layout = place(state, CLUSTER, PlacementRequest(GIB, spec()))
    assert {spot.host.zone for spot in layout.sets[0]} == {1, 2, 3}


def test_strict_zones_refuse_what_best_effort_places() -> None:
    state = inventory(*pool(6, 1, 10 * GIB, zones=2))
    place(state, CLUSTER, PlacementRequest(GIB, spec()))
    with pytest.raises(NoSpace, match="needs 3 zones with usable devices, there are 2") as refused:
        place(state, CLUSTER, PlacementRequest(GIB, spec(zone_checking=ZoneChecking.STRICT)))
    assert refused.value.largest == 0


def test_a_volume_that_is_asked_into_zones_keeps_to_them() -> None:
    state = inventory(*pool(6, 1, 10 * GIB, zones=2))
    layout = place(state, CLUSTER, PlacementRequest(GIB, spec(zones=(2,))))
    assert {spot.host.zone for spot in layout.sets[0]} == {2}
    request = PlacementRequest(GIB, spec(zones=(2, 3)))
    assert available(state, CLUSTER, request) == available(state, CLUSTER, PlacementRequest(GIB, spec())) // 2
    assert largest(state, CLUSTER, request) == largest(state, CLUSTER, PlacementRequest(GIB, spec())) // 2
    with pytest.raises(NoSpace) as refused:
        place(state, CLUSTER, PlacementRequest(GIB, spec(zones=(3, 4))))
    assert {found.rule for found in refused.value.exclusions} == {"zone"}
    assert "is in zone 1, the volume shall be in 3, 4" in refused.value.exclusions[0].detail


def test_a_device_tag_overrides_its_hosts() -> None:
    owners = [host(n, tags={"tier": "hdd"}) for n in range(3)]
    disks = [device(o, n, 10 * GIB, tags={"tier": "ssd"} if n else {}) for o, n in product(owners, range(2))]
    wanted = spec(device_tag=TagRule("tier", "ssd"))
    layout = place(inventory(*owners, *disks), CLUSTER, PlacementRequest(GIB, wanted))
    assert {spot.device.path for spot in layout.sets[0]} == {"/d1"}


def test_backends_are_counted_apart_on_one_host() -> None:
    """A thin pool needs its metadata besides: 1 GiB + 64 MiB + 8 MiB."""
    owners = [host(n) for n in range(3)]
    brick = GIB + 64 * MIB
    for metadata, sets in ((8 * MIB, 2), (4 * MIB, None)):
        thin = [device(o, 0, brick + metadata, backend=Backend.LVM) for o in owners]
        state = inventory(*owners, *thin, *(device(o, 1, brick) for o in owners))
        request = PlacementRequest(2 * GIB, spec(), Limits(max_bricks=6))
        if sets is None:
            with pytest.raises(NoSpace):
                place(state, CLUSTER, request)
        else:
            assert len(place(state, CLUSTER, request).sets) == sets


def test_an_arbiter_goes_to_the_host_that_is_kept_for_it_and_is_small() -> None:
    owners = [host(0), host(1), host(2, tags={"arbiter": "required"}), host(3, tags={"arbiter": "disabled"})]
    state = inventory(*owners, *(device(owner, 0, 100 * GIB) for owner in owners))
    layout = place(state, CLUSTER, PlacementRequest(64 * GIB, spec(ARBITER)))
    assert layout.sets[0][2].host.id == "h2"
    assert layout.sets[0][2].role is BrickRole.ARBITER
    assert sizes.usable_size(layout.sets[0][2].size) == GIB  # 1 KiB for each file of 64 KiB


def test_three_hosts_take_turns_at_the_arbiter() -> None:
    """Each host holds two data bricks and one arbiter: with the arbiter always on one host, only two sets would fit."""
    state = inventory(*pool(3, 1, 21 * GIB))
    layout = place(state, CLUSTER, PlacementRequest(30 * GIB, spec(ARBITER), Limits(max_brick=10 * GIB)))
    assert Counter(places[2].host.id for places in layout.sets) == {"h0": 1, "h1": 1, "h2": 1}


def test_hosts_fill_evenly_in_relation_to_their_size() -> None:
    owners = [host(n) for n in range(6)]
    totals = {owner.id: (n + 2) * 100 * GIB for n, owner in enumerate(owners)}
    state = inventory(*owners, *(device(owner, 0, totals[owner.id]) for owner in owners))
    for number in range(150):
        request = PlacementRequest(3 * GIB, spec())
        state = state.with_changes([volume(number, request, place(state, CLUSTER, request))], ())
    shares = [space.used / space.total for space in state.spaces.values()]
    assert max(shares) - min(shares) < 0.02


def test_what_no_pool_could_hold_is_out_of_range() -> None:
    limits = Limits(max_brick=4 * GIB, max_bricks=7)
    with pytest.raises(SizeOutOfRange, match=str(8 * GIB)):
        place(inventory(*pool(3, 1, 100 * GIB)), CLUSTER, PlacementRequest(8 * GIB + 1, spec(), limits))


def test_a_refusal_names_each_device_that_was_left_out_with_its_rule() -> None:
    away, failed, full, plain = host(0, state=Availability.OFFLINE), host(1), host(2), host(3)
    ssd = {"tier": "ssd"}
    state = inventory(
        *(away, failed, full, plain),
        device(away, 0, 50 * GIB, tags=ssd),
        device(failed, 0, 50 * GIB, tags=ssd, state=Availability.FAILED),
        device(full, 0, 100 * MIB, tags=ssd),
        device(plain, 0, 50 * GIB),
        device(plain, 1, 50 * GIB, tags=ssd),
    )
    with pytest.raises(NoSpace) as refused:
        place(state, CLUSTER, PlacementRequest(10 * GIB, spec(device_tag=TagRule("tier", "ssd"))))
    rules = {exclusion.device: exclusion.rule for exclusion in refused.value.exclusions}
    assert rules == {"h0:/d0": "host offline", "h1:/d0": "failed", "h2:/d0": "no space", "h3:/d0": "tag"}
    assert "needs 3 hosts with usable devices, there are 2" in str(refused.value)


def test_a_cluster_without_hosts_says_so() -> None:
    with pytest.raises(NoSpace, match="cluster c has no hosts"):
        place(Inventory.of([Cluster(CLUSTER)]), CLUSTER, PlacementRequest(GIB, spec()))


def test_available_is_what_the_weakest_host_allows() -> None:
    owners = [host(n) for n in range(3)]
    totals = (100 * GIB, 100 * GIB, 10 * GIB)
    state = inventory(*owners, *(device(o, 0, t) for o, t in zip(owners, totals, strict=True)))
    assert available(state, CLUSTER, PlacementRequest(GIB, spec())) == 10 * GIB - 64 * MIB
    assert available(state, CLUSTER, PlacementRequest(GIB, spec(NONE))) == 210 * GIB - 3 * 64 * MIB
    # h2 gives its 10 GiB to data of sets whose arbiters lie on h0 and h1: 210 GiB hold 2 w and a 64th of w.
    assert 104 * GIB < available(state, CLUSTER, PlacementRequest(GIB, spec(ARBITER))) < 210 * GIB / (2 + 1 / 64)


def test_a_pool_is_filled_to_the_end() -> None:
    filled = fill(4, 3, 1, 60, seed=1, device=100 * GIB)
    assert filled.ratio >= 0.97
    assert filled.placed <= 400 * GIB

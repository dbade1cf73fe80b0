"""The rules of placement, one by one."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from benchmarks.fill import fill
from csi.core import sizes
from csi.core.errors import NoSpace, SizeOutOfRange
from csi.core.inventory import Inventory
from csi.core.model import Availability, Backend, BrickRole, Cluster, Durability, Protection, TagRule, ZoneChecking
from csi.core.placement import Limits, PlacementRequest, available, largest, place
from csi.core.sizes import GIB, MIB
from tests.unit.core.inventories import ARBITER, CLUSTER, NONE, device, host, inventory, pool, spec, volume


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

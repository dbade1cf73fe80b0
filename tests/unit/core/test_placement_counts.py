"""Counts for arbiter volumes against trying all of them, on tiny domains where every branch matters."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from csi.core.inventory import Inventory
from csi.core.model import Backend, Cluster, ClusterId, Device, DeviceId, Durability, Host, HostId, Protection
from csi.core.model import VolumeSpec as Spec
from csi.core.placement import arbiter, counts
from csi.core.placement.candidates import candidates

THICK, CLUSTER = 5, ClusterId("c")
SPEC = Spec(Durability(Protection.REPLICATE, 1, 2, arbiter=True))

# (bytes, what it carries) of each device of each host; bricks take 5 bytes, arbiters ``slim``.
DEVICES = st.tuples(st.integers(0, 17), st.sampled_from(["", "", "required", "disabled"]))
FIELDS = st.lists(st.lists(DEVICES, min_size=1, max_size=2), min_size=2, max_size=5)


def make(hosts: list[list[tuple[int, str]]], slim: int) -> arbiter.Field:
    records: list[Cluster | Host | Device] = [Cluster(CLUSTER)]
    for number, devices in enumerate(hosts):
        name = HostId(f"h{number}")
        records.append(Host(name, CLUSTER, name, name, 1))
        for disk, (total, kind) in enumerate(devices):
            path = f"/d{disk}"
            tags = {"arbiter": kind} if kind else {}
            records.append(Device(DeviceId(name + path), name, path, Backend.FILE, total, tags=tags))
    spaces = candidates(Inventory.of(records), CLUSTER, SPEC)
    return arbiter.Field.of(spaces, SPEC, dict.fromkeys(Backend, THICK), dict.fromkeys(Backend, slim))


def holds(device: tuple[int, str], data: int, slim_count: int, slim: int) -> bool:
    total, kind = device
    forbidden = (kind == "required" and data) or (kind == "disabled" and slim_count)
    return not forbidden and data * THICK + slim_count * slim <= total


def host_pairs(devices: list[tuple[int, str]], sets: int, slim: int) -> set[tuple[int, int]]:
    """Every (data, arbiters) that a host can take, one brick of each set at most."""
    each = [[(x, y) for x, y in product(range(sets + 1), repeat=2) if holds(device, x, y, slim)] for device in devices]
    sums = {(sum(x for x, _ in pick), sum(y for _, y in pick)) for pick in product(*each)}
    return {(x, y) for x, y in sums if x + y <= sets}


def possible(hosts: list[list[tuple[int, str]]], sets: int, slim: int) -> bool:
    totals = {(0, 0)}
    for devices in hosts:
        pairs = host_pairs(devices, sets, slim)
        totals = {(min(a + x, 2 * sets), min(b + y, sets)) for a, b in totals for x, y in pairs}
    return (2 * sets, sets) in totals


@settings(max_examples=400, deadline=None)
@given(FIELDS, st.integers(1, 4), st.integers(1, THICK))
def test_there_is_a_layout_exactly_if_there_are_counts(
    hosts: list[list[tuple[int, str]]], sets: int, slim: int
) -> None:
    field = make(hosts, slim)
    chosen = arbiter.choose(field.spaces, SPEC, field.data, field.slim, sets)
    assert (chosen is not None) is possible(hosts, sets, slim)
    assert arbiter.fits(field.spaces, SPEC, field.data, field.slim, sets) is (chosen is not None)
    if chosen is not None:
        check(field, hosts, chosen, sets)


@settings(max_examples=400, deadline=None)
@given(FIELDS, st.integers(1, 4), st.integers(1, THICK))
def test_estimated_counts_can_be_taken(hosts: list[list[tuple[int, str]]], sets: int, slim: int) -> None:
    field = make(hosts, slim)
    offers = arbiter._offers(field)
    found = counts.estimate(list(offers.values()), sets)
    if found is None:
        return
    assert (sum(data for data, _ in found), sum(few for _, few in found)) == (2 * sets, sets)
    for place, pair in zip(offers, found, strict=True):
        assert pair in host_pairs(hosts[int(str(place)[1:])], sets, slim)
    check(field, hosts, arbiter._deal(arbiter._supply(field, dict(zip(offers, found, strict=True)), sets), sets), sets)


@settings(max_examples=400, deadline=None)
@given(FIELDS, st.integers(1, 4), st.integers(1, THICK))
def test_exact_counts_miss_nothing_and_can_be_dealt(hosts: list[list[tuple[int, str]]], sets: int, slim: int) -> None:
    field = make(hosts, slim)
    curves = arbiter._curves(field, field.domains, sets)
    found = counts.exact(list(curves.values()), sets)
    assert (found is not None) is possible(hosts, sets, slim)
    if found is not None:
        supply = arbiter._supply(field, dict(zip(curves, found, strict=True)), sets)
        check(field, hosts, arbiter._deal(supply, sets), sets)


def check(
    field: arbiter.Field, hosts: list[list[tuple[int, str]]], chosen: list[list[tuple[int, int]]], sets: int
) -> None:
    assert len(chosen) == sets
    taken: dict[tuple[int, int], list[int]] = {}
    for spots in chosen:
        assert len({host for host, _ in spots}) == 3
        for place, spot in enumerate(spots):
            taken.setdefault(spot, [0, 0])[place == 2] += 1
    for (host, disk), (data, few) in taken.items():
        device = field.spaces[host].devices[disk]
        original = hosts[int(device.host_id[1:])][int(device.path[2:])]
        assert holds(original, data, few, field.slim[Backend.FILE])


def test_an_estimate_is_enough_for_a_plain_pool() -> None:
    """The exact way costs too much on a large pool; it must not be needed where there is nothing special."""
    field = make([[(100, "")] for _ in range(4)], slim=1)
    assert counts.estimate(list(arbiter._offers(field).values()), 20) is not None


def test_fragments_that_only_fit_together_are_found() -> None:
    """9 bytes hold three arbiters of 3, though a data brick's 5 and the 4 beside it hold one each."""
    field = make([[(9, "")], [(15, "disabled")], [(15, "disabled")]], slim=3)
    assert counts.estimate(list(arbiter._offers(field).values()), 3) is None
    assert arbiter.fits(field.spaces, SPEC, field.data, field.slim, 3)

"""GIDs: the lowest free one, and the set that finds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core import gids, naming
from csi.core.errors import GidsExhausted
from csi.core.gidset import GidSet
from csi.core.inventory import Inventory
from csi.core.model import (
    ClusterId,
    Direction,
    Gid,
    Operation,
    OperationKind,
    Record,
    RestingGid,
    Step,
    Volume,
    VolumeSpec,
    VolumeState,
)


def volume(gid: int, state: VolumeState = VolumeState.READY) -> Volume:
    name = f"v{gid}"
    id_ = naming.volume_id(name)
    return Volume(id_, name, name, ClusterId("c"), 1, VolumeSpec(), (), Gid(gid), state)


def operation(gid: int, kind: OperationKind, direction: Direction = Direction.FORWARD) -> Operation:
    of = volume(gid)
    return Operation(naming.operation_id(kind, of.id), kind, of, (Step.MAKE_BRICKS,), direction)


def spec(first: int = 2000, last: int = 2147483647) -> VolumeSpec:
    return VolumeSpec(gid_min=Gid(first), gid_max=Gid(last))


def test_the_first_volume_gets_the_first_gid() -> None:
    assert gids.next_gid(Inventory(), spec()) == 2000


@pytest.mark.parametrize(
    "holder",
    [
        volume(2000),
        volume(2000, VolumeState.DELETING),
        operation(2000, OperationKind.CREATE),
        operation(2000, OperationKind.CREATE, Direction.BACK),
        RestingGid(Gid(2000), until=1.0),
    ],
    ids=["volume", "volume being deleted", "open creation", "creation being undone", "resting"],
)
def test_a_gid_is_kept_from_others(holder: Record) -> None:
    assert gids.next_gid(Inventory.of([holder]), spec()) == 2001


def test_a_gap_is_filled_first() -> None:
    state = Inventory.of([volume(2000), volume(2001), volume(2003)])
    assert gids.next_gid(state, spec()) == 2002


def test_other_ranges_are_no_concern() -> None:
    assert gids.next_gid(Inventory.of([volume(2000), volume(5000)]), spec(5000, 6000)) == 5001


def test_a_gid_is_free_again_when_its_last_holder_is_gone() -> None:
    state = Inventory.of([volume(2000), RestingGid(Gid(2000), until=1.0)])
    state = state.with_changes((), [volume(2000)])
    assert gids.next_gid(state, spec()) == 2001
    state = state.with_changes((), [RestingGid(Gid(2000), until=1.0)])
    assert gids.next_gid(state, spec()) == 2000


def test_a_full_range_is_named_with_what_rests_in_it() -> None:
    state = Inventory.of([volume(3000), RestingGid(Gid(3001), until=1.0)])
    with pytest.raises(GidsExhausted, match=r"3000 to 3001 is taken \(1 of them rest"):
        gids.next_gid(state, spec(3000, 3001))


def test_the_very_last_gid_can_be_had() -> None:
    assert gids.next_gid(Inventory(), spec(2147483647, 2147483647)) == 2147483647


# Numbers around the edges of the blocks, and close together, so that blocks fill and empty.
NUMBERS = st.one_of(st.integers(4090, 4100), st.integers(0, 9000), st.integers(0, 2147483647))


@given(st.lists(st.tuples(st.booleans(), NUMBERS), max_size=60), NUMBERS)
def test_the_set_behaves_like_a_set(changes: list[tuple[bool, int]], start: int) -> None:
    ours, plain = GidSet(), set[int]()
    for add, number in changes:
        ours = ours.add(number) if add else ours.remove(number)
        if add:
            plain.add(number)
        else:
            plain.discard(number)
        assert (number in ours) is add
    assert list(ours) == sorted(plain)
    lowest = start
    while lowest in plain:
        lowest += 1
    assert ours.lowest_free(start) == lowest
    rebuilt = GidSet()
    for number in plain:
        rebuilt = rebuilt.add(number)
    assert ours == rebuilt


def test_whole_blocks_are_passed_over() -> None:
    full = GidSet()
    for number in range(2000, 13000):
        full = full.add(number)
    assert full.lowest_free(2000) == 13000
    assert full.lowest_free(0) == 0
    assert full.remove(8192).lowest_free(2000) == 8192

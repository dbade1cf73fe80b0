"""Sizes: rounding, what XFS takes for itself, footprints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core import sizes
from csi.core.errors import InvalidRequest, SizeOutOfRange
from csi.core.model import Backend
from csi.core.sizes import GIB, GRAIN, MIB, TIB

FACTORS = st.sampled_from([1.0, 1.1, 1.5, 2.0, 100.0])


@pytest.mark.parametrize(
    ("filesystem", "log"),
    [
        (300 * MIB, 64 * MIB),
        (GIB, 64 * MIB),
        (100 * GIB, 64 * MIB),
        (128 * GIB, 64 * MIB),
        (256 * GIB, 128 * MIB),
        (2 * TIB, GIB),
    ],
)
def test_the_log_is_what_mkfs_was_seen_to_make(filesystem: int, log: int) -> None:
    assert sizes.usable_size(filesystem) == filesystem - log


@pytest.mark.parametrize("filesystem", [4 * TIB, 8 * TIB])
def test_the_log_of_a_huge_file_system_stays_below_two_gib(filesystem: int) -> None:
    assert 2038 * MIB <= filesystem - sizes.usable_size(filesystem) <= 2044 * MIB


@given(st.integers(1, 16 * TIB))
def test_the_file_system_is_the_least_that_shows_what_was_asked_for(usable: int) -> None:
    size = sizes.filesystem_size(usable)
    assert size % GRAIN == 0
    assert size >= sizes.XFS_MINIMUM
    assert sizes.usable_size(size) >= usable
    assert size == sizes.XFS_MINIMUM or sizes.usable_size(size - GRAIN) < usable


@pytest.mark.parametrize(
    ("required", "limit", "size"),
    [
        (0, 0, GIB),
        (0, 512 * MIB + 1, 512 * MIB),
        (0, 5 * GIB, GIB),
        (1, 0, sizes.SMALLEST_VOLUME),
        (1, sizes.SMALLEST_VOLUME, sizes.SMALLEST_VOLUME),
        (5 * GIB, 0, 5 * GIB),
        (5 * GIB, 5 * GIB, 5 * GIB),
        (5 * GIB + 1, 0, 5 * GIB + GRAIN),
        (5 * GIB + 1, 5 * GIB + 2, 5 * GIB + 2),
    ],
)
def test_choose(required: int, limit: int, size: int) -> None:
    assert sizes.choose(required, limit) == size


@given(st.integers(0, 1 << 50), st.integers(sizes.SMALLEST_VOLUME, 1 << 50))
def test_a_chosen_size_is_within_the_range(required: int, limit: int) -> None:
    if required <= limit:
        assert max(required, sizes.SMALLEST_VOLUME) <= sizes.choose(required, limit) <= limit


@pytest.mark.parametrize(
    ("required", "limit", "field"),
    [(-1, 0, "required_bytes"), (0, -1, "limit_bytes"), (2 * GIB, GIB, "required_bytes")],
)
def test_ranges_that_make_no_sense(required: int, limit: int, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        sizes.choose(required, limit)


@pytest.mark.parametrize(("required", "limit"), [(0, 1), (1, sizes.SMALLEST_VOLUME - 1), ((1 << 63) - 1, 0)])
def test_ranges_that_no_volume_meets(required: int, limit: int) -> None:
    with pytest.raises(SizeOutOfRange):
        sizes.choose(required, limit)


def test_the_footprint_of_an_image_is_its_size_and_what_snapshots_need() -> None:
    assert sizes.footprint(Backend.FILE, 10 * GIB, 1.0) == 10 * GIB
    assert sizes.footprint(Backend.FILE, 10 * GIB, 1.5) == 15 * GIB
    assert sizes.footprint(Backend.FILE, 10 * GIB - 1, 1.0) == 10 * GIB


@pytest.mark.parametrize(
    ("size", "metadata_kib"),
    [(GIB, 8192), (10 * GIB, 53248), (100 * GIB, 524288), (4 * TIB, 16 * 1024 * 1024)],
)
def test_the_footprint_of_a_thin_pool_is_what_heketi_measured(size: int, metadata_kib: int) -> None:
    assert sizes.footprint(Backend.LVM, size, 1.0) == size + metadata_kib * 1024


@given(st.sampled_from(Backend), st.integers(1, TIB), FACTORS)
def test_a_footprint_is_whole_grains_and_no_less_than_the_brick(backend: Backend, size: int, factor: float) -> None:
    footprint = sizes.footprint(backend, size, factor)
    assert footprint % GRAIN == 0
    assert footprint >= size * factor


@given(st.sampled_from(Backend), st.integers(0, 40 * TIB), FACTORS)
def test_the_largest_file_system_fits_and_the_next_does_not(backend: Backend, free: int, factor: float) -> None:
    size = sizes.largest_filesystem(backend, free, factor)
    assert size % GRAIN == 0
    assert size == 0 or sizes.footprint(backend, size, factor) <= free
    assert sizes.footprint(backend, size + GRAIN, factor) > free


@given(st.integers(8 * MIB, 40 * TIB), FACTORS)
def test_lvm_keeps_room_for_the_spare_of_the_largest_pool(raw: int, factor: float) -> None:
    capacity = sizes.device_capacity(Backend.LVM, raw)
    brick = sizes.largest_filesystem(Backend.LVM, capacity, factor)
    pool = sizes.round_up(-(-brick * int(factor * 10) // 10))
    spare = sizes.footprint(Backend.LVM, brick, factor) - pool
    assert sizes.footprint(Backend.LVM, brick, factor) + spare <= raw


@given(st.integers(sizes.SMALLEST_VOLUME, 8 * TIB), st.integers(1, 1 << 30))
def test_an_arbiter_has_a_kib_for_each_file_and_is_never_larger_than_the_data(usable: int, average: int) -> None:
    size = sizes.arbiter_size(usable, average)
    assert sizes.SMALLEST_VOLUME <= size <= usable
    assert size == usable or size >= usable // average * 1024

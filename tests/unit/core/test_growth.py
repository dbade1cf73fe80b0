"""Which bricks grow, and to what: for volumes of any shape, whatever they were before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csi.core import growth, naming, sizes
from csi.core.errors import NoSpace
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Backend,
    Brick,
    BrickRole,
    Cluster,
    ClusterId,
    Device,
    Durability,
    Gid,
    Host,
    Protection,
    Volume,
    VolumeSpec,
)
from csi.core.placement import Limits

GIB = 1 << 30
CLUSTER = ClusterId("c" * 32)
HOSTS = [Host(naming.host_id(f"h{n}"), CLUSTER, f"h{n}", f"10.0.0.{n}", n) for n in range(6)]
DEVICES = [
    Device(naming.device_id(host.id, "/d"), host.id, "/d", (Backend.FILE, Backend.LVM)[n % 2], 1 << 50)
    for n, host in enumerate(HOSTS)
]
DURABILITIES = st.sampled_from(
    [
        Durability(Protection.NONE),
        Durability(Protection.REPLICATE, 1, 1),
        Durability(Protection.REPLICATE, 1, 2),
        Durability(Protection.REPLICATE, 1, 2, arbiter=True),
        Durability(Protection.DISPERSE, 4, 2),
    ]
)


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Sets of any sizes, as sets that were added at different times have."""
    spec = VolumeSpec(durability=draw(DURABILITIES), snap_factor=draw(st.sampled_from([1.0, 1.5])))
    volume_id = naming.volume_id("v")
    bricks = []
    shares = draw(st.lists(st.integers(sizes.SMALLEST_VOLUME, 200 * GIB), min_size=1, max_size=4))
    for number, share in enumerate(shares):
        for index in range(spec.durability.set_size):
            arbiter = spec.durability.arbiter and index == spec.durability.set_size - 1
            usable = sizes.arbiter_size(share, spec.average_file_size) if arbiter else share
            size, device = sizes.filesystem_size(usable), DEVICES[(number + index) % 6]
            footprint = sizes.footprint(device.backend, size, spec.snap_factor)
            brick_id = naming.brick_id(volume_id, number, index)
            role = BrickRole.ARBITER if arbiter else BrickRole.DATA
            bricks.append(Brick(brick_id, number, index, device.host_id, device.id, size, footprint, "", role))
    total = sum(shares) * spec.durability.data
    return Volume(volume_id, "v", "vol_v", CLUSTER, total, spec, tuple(bricks), Gid(2000))


def inventory(volume: Volume) -> Inventory:
    return Inventory.of([Cluster(CLUSTER), *HOSTS, *DEVICES, volume])


def holds(volume: Volume) -> int:
    """What the data bricks give together, each set as much as its smallest."""
    width = volume.spec.durability.set_size
    total = 0
    for first in range(0, len(volume.bricks), width):
        one = [b for b in volume.bricks[first : first + width] if b.role is BrickRole.DATA]
        total += min(sizes.usable_size(brick.size) for brick in one) * volume.spec.durability.data
    return total


@settings(max_examples=200, deadline=None)
@given(volumes(), st.integers(0, 500 * GIB))
def test_there_is_room_for_the_new_size_and_no_brick_shrinks(volume: Volume, more: int) -> None:
    state, size = inventory(volume), volume.size + more
    larger = growth.in_place(state, volume, size, Limits(max_brick=1 << 60))
    assert larger.size == size
    assert holds(larger) >= size
    for old, new in zip(volume.bricks, larger.bricks, strict=True):
        assert new.size >= old.size
        assert replace(new, size=old.size, footprint=old.footprint) == old
        backend = state.devices[new.device_id].backend
        if new.size > old.size:
            assert new.footprint == sizes.footprint(backend, new.size, volume.spec.snap_factor)
    added = growth.extra(volume, larger)
    assert all(need > 0 for need in added.values())
    after = state.with_changes([larger], [])
    assert {d: after.used[d] - state.used[d] for d in state.used if after.used[d] != state.used[d]} == added
    # Little more than is asked for: a grain for each brick, and what the files' system needs.
    assert holds(larger) <= max(holds(volume), size + (len(volume.bricks) + 1) * 4 * sizes.GRAIN * 4 + size // 1000)


@settings(max_examples=60, deadline=None)
@given(volumes(), st.integers(10 * GIB, 300 * GIB))
def test_the_largest_that_is_named_fits_and_one_grain_more_does_not(volume: Volume, room: int) -> None:
    state = inventory(volume)
    tight = [replace(device, total=state.used.get(device.id, 0) + room) for device in DEVICES]
    state = state.with_changes(tight, [])
    with pytest.raises(NoSpace) as refused:
        growth.in_place(state, volume, volume.size + (4 << 40), Limits(max_brick=1 << 60))
    largest = refused.value.largest
    growth.in_place(state, volume, largest, Limits(max_brick=1 << 60))
    with pytest.raises(NoSpace):
        growth.in_place(
            state, volume, largest + 16 * sizes.GRAIN * volume.spec.durability.data, Limits(max_brick=1 << 60)
        )


@pytest.mark.parametrize("what", ["host", "device"])
def test_nothing_grows_on_what_is_offline(what: str) -> None:
    volume = _plain()
    state = inventory(volume)
    off = (
        replace(HOSTS[0], state=Availability.OFFLINE)
        if what == "host"
        else replace(DEVICES[0], state=Availability.FAILED)
    )
    state = state.with_changes([off], [])
    with pytest.raises(NoSpace, match=f"the {what} is"):
        growth.in_place(state, volume, 2 * volume.size, Limits(max_brick=1 << 60))


def _plain() -> Volume:
    size = sizes.filesystem_size(GIB)
    bricks = tuple(
        Brick(naming.brick_id(naming.volume_id("v"), 0, n), 0, n, d.host_id, d.id, size, size, "")
        for n, d in enumerate(DEVICES[:3])
    )
    return Volume(naming.volume_id("v"), "v", "vol_v", CLUSTER, GIB, VolumeSpec(), bricks, Gid(2000))

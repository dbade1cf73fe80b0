"""Copies of bricks as records: what they hold of their devices, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core import copies, naming, sizes
from csi.core.errors import InvalidRequest, NoRoom, SizeOutOfRange
from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Brick,
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
    Source,
    SourceKind,
    Volume,
    VolumeSpec,
)

GIB = 1 << 30
CLUSTER = Cluster(ClusterId("c" * 32))
HOSTS = [Host(HostId(f"{i:032x}"), CLUSTER.id, f"h{i}", f"10.0.0.{i}", i) for i in range(1, 4)]
DEVICES = [Device(DeviceId(f"{i + 16:032x}"), h.id, "/srv/d0", Backend.FILE, 64 * GIB) for i, h in enumerate(HOSTS)]
NEW = naming.volume_id("new")
DEFAULT = VolumeSpec()


def volume(sets: int = 1, share: int = GIB, spec: VolumeSpec = DEFAULT) -> Volume:
    known = naming.volume_id("old")
    filesystem = sizes.filesystem_size(share)
    bricks = tuple(
        Brick(
            naming.brick_id(known, number, index),
            number,
            index,
            device.host_id,
            device.id,
            filesystem,
            filesystem,
            f"/b/{number}/{index}",
            BrickRole.ARBITER if spec.durability.arbiter and index == 2 else BrickRole.DATA,
        )
        for number in range(sets)
        for index, device in enumerate(DEVICES)
    )
    size = share * sets * spec.durability.data
    return Volume(known, "old", f"vol_{known}", CLUSTER.id, size, spec, bricks, Gid(2007))


def restored(of: Volume, least: int = 0, most: int = 0, spec: VolumeSpec | None = None) -> Volume:
    inventory = Inventory.of([CLUSTER, *HOSTS, *DEVICES])
    origin = copies.Origin.of(Source(SourceKind.VOLUME, of.id), of)
    return copies.restored(inventory, origin, volume=NEW, name="new", size=(least, most), spec=spec or of.spec)


@given(st.lists(st.integers(0, 2 * GIB), min_size=3, max_size=3))
def test_more_is_set_aside_than_is_there_and_never_more_than_a_brick_can_hold(taken: list[int]) -> None:
    of = volume()
    made = copies.planned(naming.snapshot_id("s"), of, taken)
    for copy, brick, now in zip(made, of.bricks, taken, strict=True):
        assert (copy.set, copy.index, copy.device_id, copy.size) == (0, brick.index, brick.device_id, brick.size)
        assert now <= copy.footprint <= max(brick.size, sizes.round_up(now))
    assert len({copy.id for copy in made}) == 3


def test_a_copy_lies_where_its_source_does_and_has_its_gid() -> None:
    of = volume(sets=2)
    made = restored(of)
    assert [(b.set, b.index, b.device_id, b.size) for b in made.bricks] == [
        (b.set, b.index, b.device_id, b.size) for b in of.bricks
    ]
    assert {b.id for b in made.bricks}.isdisjoint(b.id for b in of.bricks)
    assert (made.size, made.gid, made.source) == (of.size, of.gid, Source(SourceKind.VOLUME, of.id))


@given(st.integers(1, 3), st.integers(GIB, 4 * GIB), st.booleans())
def test_a_larger_copy_holds_what_was_asked_for(sets: int, share: int, disperse: bool) -> None:
    durability = Durability(Protection.DISPERSE, 2, 1) if disperse else VolumeSpec().durability
    of = volume(sets, GIB, VolumeSpec(durability=durability))
    asked = share * sets * durability.data
    made = restored(of, asked)
    assert made.size >= asked
    assert sum(sizes.usable_size(b.size) for b in made.bricks if b.index < durability.data) >= made.size
    assert all(new.size >= old.size for new, old in zip(made.bricks, of.bricks, strict=True))


def test_what_cannot_be_is_refused() -> None:
    of = volume()
    with pytest.raises(SizeOutOfRange, match="required_bytes"):
        restored(of, GIB - 1)
    with pytest.raises(SizeOutOfRange, match="limit_bytes"):
        restored(of, 0, GIB - 1)
    with pytest.raises(InvalidRequest, match="clusterId"):
        restored(of, spec=replace(of.spec, cluster_ids=(ClusterId("d" * 32),)))
    with pytest.raises(InvalidRequest, match="volumeType"):
        restored(of, spec=VolumeSpec(durability=Durability(Protection.NONE)))
    with pytest.raises(InvalidRequest, match="zone 2, 3"):
        restored(of, spec=replace(of.spec, zones=(1,)))
    with pytest.raises(NoRoom, match="h1:/srv/d0 has"):
        restored(of, 100 * GIB)

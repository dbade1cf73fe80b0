"""What every BrickBackend promises of growth, by LVM, and thin pools that are extended: where there is room."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from csi.bricks import lvmpaths
from csi.core import sizes
from csi.core.errors import Unavailable
from csi.core.model import Backend, PoolSize
from csi.core.pools import PoolFullness
from tests.contract.bricks.bench import SIZE, whole
from tests.contract.lvm.bench import LvmBench, pool


async def test_bricks_grow_while_they_are_in_use(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bigger = replace(
        placed, identity=replace(placed.identity, volume_size=2 * SIZE, brick=replace(placed.brick, size=2 * SIZE))
    )
    release = bench.on.hold(placed.brick.path)
    before = bench.on.size(lvmpaths.mount_point(placed))
    for _ in range(2):
        await bench.backend.grow(bench.on.host, [bigger])
        assert await bench.inspect(bigger) == (whole(bigger),)
        assert bench.on.size(lvmpaths.mount_point(placed)) - before == SIZE
        assert json.loads(bench.on.read(lvmpaths.identity_file(placed)))["volume_size"] == 2 * SIZE
    await bench.backend.grow(bench.on.host, [placed])  # never smaller
    assert (await bench.inspect(placed))[0].size == 2 * SIZE
    release()
    bench.on.unmount(lvmpaths.mount_point(placed))
    with pytest.raises(Unavailable, match="not mounted"):
        await bench.backend.grow(bench.on.host, [bigger])
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_growth_without_room_says_so_and_changes_nothing(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    huge = replace(placed, identity=replace(placed.identity, brick=replace(placed.brick, size=900 * SIZE)))
    with pytest.raises(Unavailable, match="no room"):
        await bench.backend.grow(bench.on.host, [huge])
    assert (await bench.inspect(placed))[0].size == SIZE
    await bench.destroy(placed)


async def test_a_pool_is_extended_once_and_its_brick_says_what_it_takes(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)

    async def look() -> PoolFullness:
        (group,) = await bench.backend.fullness(bench.on.host, [placed.device])
        # The records count no byte more and no byte less.
        assert group.taken == sum(one.size + one.metadata_size for one in group.pools)
        (found,) = group.pools
        return found

    before = await look()
    assert before.size + before.metadata_size == sizes.footprint(Backend.LVM, placed.brick.size, 1.0)
    assert (before.name, before.bricks, before.promised) == (pool(placed), (placed.brick.id,), before.size)
    wanted = PoolSize(placed.brick.id, before.size + (100 << 20), before.metadata_size + (4 << 20))
    taking = replace(placed.brick, footprint=placed.brick.footprint + (104 << 20))
    larger = replace(placed, identity=replace(placed.identity, brick=taking))
    after = before
    for _ in range(2):
        await bench.backend.extend_pools(bench.on.host, [larger], [wanted])
        after = await look()
        assert (after.size, after.metadata_size) == (wanted.data, wanted.metadata)
        assert after.room <= before.room - (104 << 20)
        assert await bench.inspect(larger) == (whole(larger),)
    # It never gets smaller, and never larger than there is room.
    await bench.backend.extend_pools(bench.on.host, [larger], [PoolSize(placed.brick.id, 0, 0)])
    with pytest.raises(Unavailable, match="has no room"):
        await bench.backend.extend_pools(
            bench.on.host, [larger], [replace(wanted, data=wanted.data + after.room + (64 << 20))]
        )
    assert await look() == after
    await bench.destroy(larger)
    assert bench.on.traces() == bench.clean

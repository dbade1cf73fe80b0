"""Expanding volumes over simulated hosts, with faults."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from csi.bricks import identity
from csi.core import sizes
from csi.core.errors import (
    Busy,
    DriverError,
    Incoherent,
    InvalidRequest,
    NoSpace,
    NotFound,
    SizeOutOfRange,
    TooLarge,
    Unavailable,
)
from csi.core.model import BrickId, BrickRole, OperationKind, Volume
from csi.hosts.simulated.filesystem import FileSystem
from csi.hosts.simulated.world import Fault, Kind
from csi.service.expansion import ExpandRequest
from tests.crash.traces import traces
from tests.unit.service.conftest import GIB, Pool

GROW = "csi_brick_grow*"


async def expand(pool: Pool, volume: Volume, required: int, limit: int = 0) -> Volume:
    return await pool.core.expansion.expand(ExpandRequest(volume.id, required, limit))


def brick_sizes(pool: Pool, volume: Volume) -> dict[BrickId, int]:
    """The size of the file system of each brick, as its host has it."""
    inventory = pool.core.outside.store.inventory
    found = {}
    for brick in volume.bricks:
        machine = pool.world.machines[inventory.hosts[brick.host_id].manage]
        mount = machine.mounts[brick.path.removesuffix("/brick")]
        assert mount.image is not None
        found[brick.id] = mount.image.size
    return found


def check(pool: Pool, volume: Volume) -> None:
    """The bricks are as large as their records say, carry the volume's size, and give room for all of it."""
    found = brick_sizes(pool, volume)
    assert found == {brick.id: brick.size for brick in volume.bricks}
    data = [found[brick.id] for brick in volume.bricks if brick.role is BrickRole.DATA]
    assert volume.set_count * volume.spec.durability.data * sizes.usable_size(min(data)) >= volume.size
    inventory = pool.core.outside.store.inventory
    for brick in volume.bricks:
        machine = pool.world.machines[inventory.hosts[brick.host_id].manage]
        said = identity.read_brick(machine.read(brick.path.removesuffix("brick") + "brick.json"))
        assert said is not None
        assert (said.volume_size, said.brick) == (volume.size, brick)


async def test_an_expansion_asks_each_host_once(pool: Pool) -> None:
    volume = await pool.create()
    done = len(pool.world.points)
    await expand(pool, volume, 2 * GIB)
    asked = [point for point in pool.world.points[done:] if "csi_brick_grow" in point and ": before" in point]
    assert len(asked) == len(volume.bricks)


def used(pool: Pool) -> int:
    return sum(pool.core.outside.store.inventory.used.values())


@pytest.mark.parametrize(
    "parameters", [{}, {"arbiter": "true"}, {"volumetype": "disperse:2:1"}, {"volumetype": "none"}]
)
async def test_every_kind_of_volume_grows(pool: Pool, parameters: dict[str, Any]) -> None:
    volume = await pool.create(**parameters)
    for size in (2 * GIB, 5 * GIB + 1):
        larger = await expand(pool, volume, size)
        assert larger.size >= size
        assert pool.core.volumes.get(volume.id) == larger
        check(pool, larger)
        assert used(pool) == sum(brick.footprint for brick in larger.bricks)
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []
    assert used(pool) == 0


async def test_a_volume_that_is_that_large_stays_as_it_is(pool: Pool) -> None:
    volume = await pool.create()
    assert await expand(pool, volume, GIB // 2) == volume
    assert await expand(pool, volume, GIB, 2 * GIB) == volume
    assert await expand(pool, volume, 0, 3 * GIB) == volume
    assert (await expand(pool, volume, GIB + 1, GIB + 1)).size == GIB + 1


async def test_what_can_not_be_is_refused_and_nothing_is_left_of_it(pool: Pool) -> None:
    volume = await pool.create()
    with pytest.raises(SizeOutOfRange, match="does not shrink"):
        await expand(pool, volume, GIB // 2, GIB // 2)
    with pytest.raises(SizeOutOfRange, match="max_brick"):
        await expand(pool, volume, 1 << 50)
    with pytest.raises(InvalidRequest):
        await expand(pool, volume, 3 * GIB, 2 * GIB)
    for unknown in ("fake-vol-id", "0" * 32):
        with pytest.raises(NotFound):
            await pool.core.expansion.expand(ExpandRequest(unknown, 2 * GIB, 0))
    with pytest.raises(TooLarge) as refused:
        await expand(pool, volume, 100 * GIB)
    assert not pool.core.outside.store.inventory.operations
    assert pool.core.volumes.get(volume.id) == volume
    largest = refused.value.largest
    with pytest.raises(TooLarge):
        await expand(pool, volume, largest + 1)
    check(pool, await expand(pool, volume, largest))


async def test_the_growth_is_reserved_from_the_line_on(pool: Pool) -> None:
    one, other = await pool.create("one"), await pool.create("other")
    fault = pool.world.inject(Fault("h2", GROW, Kind.HANG))
    task = asyncio.create_task(expand(pool, one, 12 * GIB))
    while not fault.struck:
        await asyncio.sleep(0)
    held = used(pool)
    assert held >= 3 * 12 * GIB
    with pytest.raises(TooLarge):
        await expand(pool, other, 12 * GIB)
    with pytest.raises(NoSpace):
        await pool.create("third", 12 * GIB)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert used(pool) == held


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.DROP_BEFORE, Kind.DROP_AFTER])
async def test_an_expansion_that_fails_on_a_host_is_not_told_and_goes_on(pool: Pool, kind: Kind) -> None:
    volume = await pool.create()
    pool.world.inject(Fault("h2", GROW, kind))
    with pytest.raises(Unavailable, match="is tried again"):
        await expand(pool, volume, 4 * GIB)
    assert pool.core.volumes.get(volume.id).size == GIB
    assert await expand(pool, volume, GIB) == volume
    await pool.core.recovery.look()
    larger = pool.core.volumes.get(volume.id)
    assert larger.size == 4 * GIB
    check(pool, larger)
    assert not pool.core.outside.store.inventory.operations


async def test_nothing_is_begun_while_a_host_is_away(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.machines["h3"].shut_down()
    await asyncio.sleep(2.1)  # until its last answer is old
    with pytest.raises(Unavailable, match="h3"):
        await expand(pool, volume, 2 * GIB)
    assert not pool.core.outside.store.inventory.operations
    pool.world.machines["h3"].boot()
    check(pool, await expand(pool, volume, 2 * GIB))


async def test_a_smaller_request_takes_the_place_of_one_that_failed(pool: Pool) -> None:
    volume = await pool.create()
    fault = pool.world.inject(Fault("h2", GROW, Kind.ERROR, times=100))
    with pytest.raises(Unavailable):
        await expand(pool, volume, 15 * GIB)
    with pytest.raises(Unavailable):
        await expand(pool, volume, 3 * GIB)
    pool.world.faults.remove(fault)
    smaller = await expand(pool, volume, 3 * GIB)
    assert smaller.size == 3 * GIB
    found = brick_sizes(pool, smaller)
    assert found == {brick.id: brick.size for brick in smaller.bricks}
    assert sorted(size > 15 * GIB for size in found.values()) == [False, True, True]
    assert used(pool) == sum(found.values())
    check(pool, await expand(pool, volume, 15 * GIB))
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_larger_request_finishes_the_smaller_one_first(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.inject(Fault("h2", GROW, Kind.ERROR))
    with pytest.raises(Unavailable):
        await expand(pool, volume, 2 * GIB)
    check(pool, await expand(pool, volume, 3 * GIB))


async def test_two_at_once(pool: Pool) -> None:
    volume = await pool.create()
    same = await asyncio.gather(*(expand(pool, volume, 2 * GIB) for _ in range(5)))
    assert {v.size for v in same} == {2 * GIB}
    outcomes = await asyncio.gather(*(expand(pool, volume, n * GIB) for n in (3, 4)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Volume, Busy]


async def test_a_deadline_ends_the_waiting_only(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.latency = type(pool.world.latency)(round_trip=0.1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(expand(pool, volume, 2 * GIB), 0.02)
    assert (await expand(pool, volume, 2 * GIB)).size == 2 * GIB


async def test_not_while_it_is_deleted(pool: Pool) -> None:
    volume = await pool.create()
    fault = pool.world.inject(Fault("h2", "*volume delete*", Kind.ERROR, times=100))
    fault.host = "*"
    with pytest.raises(DriverError):
        await pool.core.volumes.delete(volume.id)
    with pytest.raises(NotFound):
        await expand(pool, volume, 2 * GIB)
    pool.world.faults.clear()
    await pool.core.volumes.delete(volume.id)


async def test_a_volume_is_deleted_in_the_middle_of_an_expansion(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.inject(Fault("h2", GROW, Kind.ERROR))
    with pytest.raises(Unavailable):
        await expand(pool, volume, 4 * GIB)
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []
    assert used(pool) == 0


async def test_a_brick_of_another_stops_the_expansion(pool: Pool) -> None:
    volume = await pool.create()
    brick = volume.bricks[1]
    host = pool.core.outside.store.inventory.hosts[brick.host_id]
    machine = pool.world.machines[host.manage]
    path = brick.path.removesuffix("brick") + "brick.json"
    text = machine.read(path)
    machine.write(path, text.replace(volume.name, "another"))
    with pytest.raises(Unavailable, match="another"):
        await expand(pool, volume, 2 * GIB)
    with pytest.raises(Incoherent):
        await pool.core.volumes.delete(volume.id)
    deletion = pool.core.outside.store.inventory.operations.values()
    assert [o.kind for o in deletion] == [OperationKind.DELETE]
    machine.write(path, text)
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_half_grown_volume_is_found_with_its_old_size(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.inject(Fault("h2", GROW, Kind.ERROR))
    with pytest.raises(Unavailable):
        await expand(pool, volume, 4 * GIB)
    await pool.forget()
    await pool.load()
    found = pool.core.volumes.get(volume.id)
    assert found.size == GIB
    check(pool, await expand(pool, found, 4 * GIB))


async def test_further_sets_where_the_class_allows_them(pool: Pool) -> None:
    volume = await pool.create(size=15 * GIB, expansion="addSets")
    with pytest.raises(TooLarge) as refused:
        await expand(pool, volume, 100 * GIB)
    larger = await expand(pool, volume, 16 * GIB)  # still in place
    assert larger.set_count == 1
    check(pool, larger)
    assert refused.value.largest > 16 * GIB
    assert not pool.core.outside.store.inventory.operations


@pytest.fixture
async def wide(pool: Pool) -> Pool:
    """A second device on each host, so that no brick can grow to what the pool could hold."""
    for number in range(1, 4):
        machine = pool.world.machines[f"h{number}"]
        machine.disks["/dev/disk9"] = FileSystem("xfs", 20 * GIB)
        machine.make_directory("/srv/d1", parents=True)
        machine.mount_line("/dev/disk9", "/srv/d1", "noatime")
    assert not [progress.line for progress in await pool.load() if progress.failed]
    pool.clean = traces(pool.world)
    return pool


@pytest.mark.parametrize(
    "parameters", [{}, {"arbiter": "true"}, {"volumetype": "disperse:2:1"}, {"volumetype": "none"}]
)
async def test_a_device_that_lacks_room(wide: Pool, parameters: dict[str, Any]) -> None:
    plain = await wide.create("plain", **parameters)
    share = 45 * GIB if "disperse:2:1" in parameters.values() else 25 * GIB
    with pytest.raises(TooLarge):
        await expand(wide, plain, share)
    await wide.core.volumes.delete(plain.id)
    volume = await wide.create(expansion="addSets", **parameters)
    larger = await expand(wide, volume, share)
    assert larger.set_count > 1
    inventory = wide.core.outside.store.inventory
    assert [operation.kind for operation in inventory.operations.values()] == [OperationKind.REBALANCE]
    assert used(wide) == sum(brick.footprint for brick in larger.bricks)
    assert brick_sizes(wide, larger) == {brick.id: brick.size for brick in larger.bricks}
    await wide.core.recovery.look()
    assert not wide.core.outside.store.inventory.operations
    await wide.forget()
    await wide.load()
    assert wide.core.volumes.get(volume.id).bricks == larger.bricks
    await wide.core.volumes.delete(volume.id)
    assert wide.left() == []


@pytest.mark.parametrize("command", ["csi_brick_format*", "*volume add-brick*", "*volume rebalance*", GROW])
@pytest.mark.parametrize("then", ["recovered", "asked for less", "deleted"])
async def test_further_sets_that_fail_half_way(wide: Pool, command: str, then: str) -> None:
    volume = await wide.create(expansion="addSets")
    wide.world.inject(Fault("*", command, Kind.ERROR))
    with pytest.raises(Unavailable):
        await expand(wide, volume, 25 * GIB)
    assert wide.core.volumes.get(volume.id).size == GIB
    if then == "recovered":
        await wide.core.recovery.look()
    elif then == "asked for less":
        await expand(wide, volume, 2 * GIB)
    if then != "deleted":
        assert wide.core.volumes.get(volume.id).size == 25 * GIB
    await wide.core.volumes.delete(volume.id)
    assert wide.left() == []
    assert used(wide) == 0

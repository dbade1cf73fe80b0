"""Thin pools that are full, over simulated hosts: what is refused then, in which words, and what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from csi import config
from csi.core import params
from csi.core.errors import Busy, NoRoom, NoSpace
from csi.core.model import OperationKind, Source, SourceKind, Volume
from csi.core.pools import PoolLimit, Refusing
from csi.hosts.simulated.filesystem import FileSystem
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.lvm import EXTENT, ThinPool, ThinVolume
from csi.hosts.simulated.world import Fault, Kind, World
from csi.service.expansion import ExpandRequest
from csi.service.fullness import Health
from tests.crash.traces import traces
from tests.unit.service.conftest import GIB, Pool, driver


@pytest.fixture
async def lvm() -> AsyncIterator[Pool]:
    """Three hosts with a disk of 20 GiB each."""
    async for pool in made():
        yield pool


async def made(**settings: str) -> AsyncIterator[Pool]:
    world = World()
    world.glusterd = SimulatedGlusterd(world)
    for number in range(1, 4):
        world.add(f"h{number}", f"10.0.0.{number}").add_disk("/dev/vdb", 20 * GIB)
    environ = {f"GLUSTER_CSI_BRICKS__{name.upper()}": value for name, value in settings.items()}
    fixed = {"GLUSTER_CSI_GIDS__REST_SECONDS": "0", "GLUSTER_CSI_RECOVERY__GRACE": "0"}
    loaded = config.load(None, {**fixed, **environ})
    pool = Pool(world, await driver(world, loaded), loaded, {})
    assert not [progress.line for progress in await pool.load() if progress.failed]
    pool.clean = traces(world)
    yield pool
    await pool.core.outside.gluster.close()
    await pool.core.outside.runner.close()


def thin_pool(pool: Pool, volume: Volume, host: str = "h1") -> ThinPool:
    (found,) = [
        one
        for group in pool.world.machines[host].lvm.groups.values()
        for one in group.pools.values()
        if any(one.name == f"tp_{brick.id}" for brick in volume.bricks)
    ]
    return found


def fill(pool: Pool, volume: Volume, share: float, host: str = "h1") -> None:
    found = thin_pool(pool, volume, host)
    found.space.used = int(found.space.capacity * share)


def write(pool: Pool, volume: Volume, share: float) -> None:
    """So much of its file systems is taken, on all hosts."""
    for host in ("h1", "h2", "h3"):
        found = thin_pool(pool, volume, host)
        group = next(group for group in pool.world.machines[host].lvm.groups.values() if found.name in group.pools)
        (brick,) = group.volumes_of(found)
        assert brick.device.filesystem is not None
        brick.device.filesystem.used = found.space.used = int(brick.device.size * share)


def copied_by_hand(pool: Pool, volume: Volume, host: str = "h1") -> None:
    """Somebody makes a thin snapshot, which the pool has no room for in the end."""
    found = thin_pool(pool, volume, host)
    machine = pool.world.machines[host]
    for group in machine.lvm.groups.values():
        if found.name in group.pools:
            (origin,) = group.volumes_of(found)
            machine.lvm.snapshot(group, origin, "by_hand", skip=True, tags=set())


async def test_a_pool_that_can_hold_all_that_is_in_it_may_be_full(lvm: Pool) -> None:
    volume = await lvm.create()
    fill(lvm, volume, 0.95)
    told: list[Health] = []
    lvm.core.fullness.listen(told.append)
    await lvm.core.fullness.look()
    (full,) = [one.pool for one in lvm.core.fullness.measured if one.pool.data > 80]
    assert full.volumes == ("pvc",)
    assert not full.is_overcommitted
    assert [len(health.crossed) for health in told if health.full] == [1]
    copied_by_hand(lvm, volume)
    await lvm.core.fullness.look()
    await lvm.core.fullness.look()
    # It is told once more when it has become dangerous.
    assert [len(health.crossed) for health in told if health.full] == [1, 1, 0]
    for group in lvm.world.machines["h1"].lvm.groups.values():
        lvm.world.machines["h1"].lvm.remove(group, group.volumes["by_hand"])
    await lvm.core.fullness.look()
    await lvm.create("other")
    await lvm.core.expansion.expand(ExpandRequest(volume.id, 2 * GIB, 0))


async def test_nothing_new_goes_to_a_device_with_a_pool_that_is_too_full(lvm: Pool) -> None:
    volume = await lvm.create()
    copied_by_hand(lvm, volume)
    await lvm.core.fullness.look()
    await lvm.core.volumes.delete((await lvm.create("before")).id)
    fill(lvm, volume, 0.91)
    await lvm.core.fullness.look()
    with pytest.raises(NoSpace) as refused:
        await lvm.create("other")
    (excluded,) = refused.value.exclusions
    assert (excluded.device, excluded.rule) == ("h1:/dev/vdb", "thin pool")
    for word in ("tp_", "'pvc'", thin_pool(lvm, volume).name[3:], "91 %", "80 %", "delete snapshots"):
        assert word in excluded.detail
    assert lvm.core.volumes.capacity(params.parse({}).spec).available == 0
    assert (await lvm.create("pair", volumetype="replicate:2")).set_count == 1
    fill(lvm, volume, 0.5)
    await lvm.core.fullness.look()
    await lvm.create("other")


async def test_metadata_counts_whatever_is_promised(lvm: Pool) -> None:
    volume = await lvm.create()
    found = thin_pool(lvm, volume)
    found.metadata_used = found.metadata * (4 << 20) * 85 // 100
    await lvm.core.fullness.look()
    with pytest.raises(NoSpace, match=r"its metadata at 9\d %"):
        await lvm.create("other")


async def test_a_pool_that_is_too_full_takes_nothing_more_of_its_volumes(lvm: Pool) -> None:
    volume, other = await lvm.create(), await lvm.create("other")
    snapshot = await lvm.core.snapshots.create("snap", volume.id)
    copied_by_hand(lvm, other)
    fill(lvm, other, 0.9)
    await lvm.core.fullness.look()
    # Of others on the device nothing is refused that stays in their own pools.
    await lvm.core.snapshots.create("second", volume.id)
    await lvm.core.expansion.expand(ExpandRequest(volume.id, 2 * GIB, 0))
    await lvm.copy(Source(SourceKind.SNAPSHOT, snapshot.id), "restored")
    before = traces(lvm.world)
    with pytest.raises(NoRoom, match=r"no expansion of volume 'other' now: on h1:/dev/vdb, thin pool vg_.* 90 %"):
        await lvm.core.expansion.expand(ExpandRequest(other.id, 2 * GIB, 0))
    with pytest.raises(NoRoom, match=r"no snapshot of 'other' now: .*90 %"):
        await lvm.core.snapshots.create("refused", other.id)
    with pytest.raises(NoRoom, match=r"no copy of volume 'other' now: .*90 %"):
        await lvm.copy(Source(SourceKind.VOLUME, other.id), "clone")
    assert traces(lvm.world) == before
    fill(lvm, volume, 0.9)
    assert not lvm.core.outside.store.inventory.operations
    lvm.core.fullness.limit = PoolLimit(80, Refusing.ALL)
    await lvm.core.fullness.look()
    with pytest.raises(NoRoom, match="no copy of snapshot 'snap' now"):
        await lvm.copy(Source(SourceKind.SNAPSHOT, snapshot.id), "late")


# --- what no record counts --------------------------------------------------------------------


def free(pool: Pool) -> int:
    """What the largest new volume may have."""
    return pool.core.volumes.capacity(params.parse({}).spec).maximum


async def test_what_a_pool_keeps_for_a_snapshot_is_not_promised_to_others(lvm: Pool) -> None:
    empty = free(lvm)
    volume = await lvm.create(size=12 * GIB)
    write(lvm, volume, 0.1)
    snapshot = await lvm.core.snapshots.create("snap", volume.id)
    await lvm.core.volumes.delete(volume.id)
    assert free(lvm) > 15 * GIB
    await lvm.core.fullness.look()
    assert 5 * GIB < free(lvm) < 8 * GIB
    with pytest.raises(NoSpace):
        await lvm.create("other", size=10 * GIB)
    await lvm.create("small", size=4 * GIB)
    # What comes into that very pool takes of what it has.
    restored = await lvm.copy(Source(SourceKind.SNAPSHOT, snapshot.id), "restored")
    await lvm.core.fullness.look()
    for one in lvm.core.volumes.list("", 0).volumes:
        await lvm.core.volumes.delete(one.id)
    assert restored.size == 12 * GIB
    await lvm.core.snapshots.delete(snapshot.id)
    await lvm.core.fullness.look()
    assert (lvm.left(), free(lvm)) == ([], empty)


async def test_a_volume_has_for_itself_what_its_pool_keeps_of_snapshots_that_are_gone(lvm: Pool) -> None:
    volume = await lvm.create(size=9 * GIB)
    write(lvm, volume, 0.97)
    for number in range(3):
        await lvm.core.snapshots.delete((await lvm.core.snapshots.create(f"snap-{number}", volume.id)).id)
        await lvm.core.fullness.look()
        assert free(lvm) < 3 * GIB
    await lvm.core.expansion.expand(ExpandRequest(volume.id, 15 * GIB, 0))
    await lvm.core.fullness.look()
    assert not lvm.core.outside.store.inventory.operations


async def test_volumes_of_others_in_a_group_are_counted(lvm: Pool) -> None:
    told: list[Health] = []
    lvm.core.fullness.listen(told.append)
    before = free(lvm)
    await lvm.core.fullness.look()
    assert {health.unrecorded for health in told} == {0}
    (group,) = lvm.world.machines["h1"].lvm.groups.values()
    space = FileSystem("pool", 10 * GIB)
    group.pools["theirs"] = ThinPool("theirs", 10 * GIB // EXTENT, 4, 64 << 10, space)
    await lvm.core.fullness.look()
    assert [health.unrecorded >= 10 * GIB for health in told[3:]].count(True) == 1
    assert free(lvm) < before - 9 * GIB
    lvm.world.inject(Fault("h1", "csi_lvm_look*", Kind.ERROR, times=1))
    await lvm.core.fullness.look()
    assert free(lvm) < before - 9 * GIB
    del group.pools["theirs"]
    await lvm.core.fullness.look()
    assert free(lvm) == before


# --- extension --------------------------------------------------------------------------------


@pytest.fixture
async def growing() -> AsyncIterator[Pool]:
    """The same, and pools are extended from 70 % on."""
    async for pool in made(pool_autoextend_threshold="70", pool_autoextend_percent="25"):
        yield pool


async def look(pool: Pool) -> None:
    """As the watch does it."""
    await pool.core.fullness.round()


def accounted(pool: Pool) -> None:
    """What the records count of each device is what its pools really take."""
    inventory = pool.core.outside.store.inventory
    for device in inventory.devices.values():
        group = pool.world.machines[inventory.hosts[device.host_id].manage].lvm.groups[f"vg_{device.id}"]
        taken = sum((one.data + one.metadata) * EXTENT for one in group.pools.values())
        assert inventory.used.get(device.id, 0) == taken


async def test_a_pool_that_is_too_full_is_extended_and_its_device_takes_bricks_again(growing: Pool) -> None:
    volume = await growing.create()
    copied_by_hand(growing, volume)
    fill(growing, volume, 0.91)
    found = thin_pool(growing, volume)
    data = found.data
    accounted(growing)
    await look(growing)
    assert found.data == -(-data * 5 // 4)
    accounted(growing)
    await growing.create("other")
    # The brick says how much it takes: the records can be had from it again.
    after = growing.core.volumes.get(volume.id)
    used = dict(growing.core.outside.store.inventory.used)
    await growing.forget()
    await growing.load()
    assert growing.core.volumes.get(volume.id).bricks == after.bricks
    assert dict(growing.core.outside.store.inventory.used) == used
    for one in growing.core.volumes.list("", 0).volumes:
        await growing.core.volumes.delete(one.id)


async def test_an_extension_ends_with_what_is_promised_and_with_the_room(growing: Pool) -> None:
    volume = await growing.create(size=8 * GIB)
    copied_by_hand(growing, volume)
    found = thin_pool(growing, volume)
    for _ in range(8):
        fill(growing, volume, 0.9)
        await look(growing)
        accounted(growing)
    assert found.data == sum(one.size for one in _volumes_in(growing, found))
    other = await growing.create("other", size=GIB)
    copied_by_hand(growing, other, "h2")
    await growing.create("rest", size=growing.core.volumes.capacity(params.parse({}).spec).maximum)
    for _ in range(3):
        fill(growing, other, 0.9, "h2")
        await look(growing)
        accounted(growing)
    assert not growing.core.outside.store.inventory.operations


def _volumes_in(pool: Pool, found: ThinPool) -> list[ThinVolume]:
    groups = [g for machine in pool.world.machines.values() for g in machine.lvm.groups.values()]
    group = next(group for group in groups if found in group.pools.values())
    return group.volumes_of(found)


async def test_metadata_is_extended_too(growing: Pool) -> None:
    volume = await growing.create(size=4 * GIB)
    found = thin_pool(growing, volume)
    before = (found.data, found.metadata)
    found.metadata_used = found.metadata * EXTENT * 70 // 100
    await look(growing)
    assert (found.data, found.metadata) == (before[0], -(-before[1] * 5 // 4))
    accounted(growing)


async def test_a_pool_that_was_extended_counts_once_when_its_volume_grows(growing: Pool) -> None:
    volume = await growing.create(size=4 * GIB)
    growing.core.fullness.limit = PoolLimit(80, Refusing.ALL)
    fill(growing, volume, 0.75)
    found = thin_pool(growing, volume)
    found.metadata_used = found.metadata * EXTENT * 70 // 100
    await look(growing)
    found.metadata_used = 0
    await growing.core.fullness.look()
    for size in (4 * GIB + (100 << 20), 6 * GIB):
        await growing.core.expansion.expand(ExpandRequest(volume.id, size, 0))
        inventory = growing.core.outside.store.inventory
        for device in inventory.devices.values():
            group = growing.world.machines[inventory.hosts[device.host_id].manage].lvm.groups[f"vg_{device.id}"]
            assert inventory.used[device.id] >= sum((p.data + p.metadata) * EXTENT for p in group.pools.values())
    await growing.core.volumes.delete(volume.id)
    assert growing.left() == []
    assert not growing.core.outside.store.inventory.used


async def test_an_extension_that_was_interrupted_is_finished_and_a_deletion_takes_it_along(growing: Pool) -> None:
    volume = await growing.create()
    copied_by_hand(growing, volume)
    fill(growing, volume, 0.91)
    growing.world.inject(Fault("h1", "csi_lvm_extend_pool*", Kind.ERROR, times=2))
    await look(growing)
    (begun,) = growing.core.outside.store.inventory.operations.values()
    assert (begun.kind, begun.attempts) == (OperationKind.EXTEND, 1)
    with pytest.raises(Busy, match=r"is being changed: host h1.*csi_lvm_extend_pool"):
        await growing.core.snapshots.create("snap", volume.id)
    before = dict(growing.core.outside.store.inventory.used)
    await look(growing)  # it is not begun twice
    assert dict(growing.core.outside.store.inventory.used) == before
    await growing.core.recovery.look()
    assert growing.core.outside.store.inventory.operations
    growing.world.faults.clear()
    with suppress(NoRoom):  # by the figures of the last look; what was begun is finished all the same
        await growing.core.expansion.expand(ExpandRequest(volume.id, GIB + 1, 0))
    assert not growing.core.outside.store.inventory.operations
    accounted(growing)
    fill(growing, volume, 0.91)
    growing.world.inject(Fault("h1", "csi_lvm_extend_pool*", Kind.ERROR, times=9))
    await look(growing)
    assert growing.core.outside.store.inventory.operations
    for group in growing.world.machines["h1"].lvm.groups.values():
        growing.world.machines["h1"].lvm.remove(group, group.volumes["by_hand"])
    await growing.core.volumes.delete(volume.id)
    assert growing.left() == []
    accounted(growing)


async def test_one_that_is_off_extends_nothing(lvm: Pool) -> None:
    volume = await lvm.create()
    copied_by_hand(lvm, volume)
    fill(lvm, volume, 0.99)
    before = traces(lvm.world)
    await look(lvm)
    assert traces(lvm.world) == before

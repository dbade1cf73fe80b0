"""Thin pools that are full, over simulated hosts: what is refused then, in which words, and what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi import config
from csi.core import params
from csi.core.errors import NoRoom, NoSpace
from csi.core.model import Source, SourceKind, Volume
from csi.core.pools import Refusing
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.lvm import ThinPool
from csi.hosts.simulated.world import World
from csi.service.expansion import ExpandRequest
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
    await lvm.core.fullness.look()
    (full,) = [one.pool for one in lvm.core.fullness.measured if one.pool.data > 80]
    assert full.volumes == ("pvc",)
    assert not full.is_overcommitted
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
    lvm.core.fullness.limit = type(lvm.core.fullness.limit)(80.0, Refusing.ALL)
    await lvm.core.fullness.look()
    with pytest.raises(NoRoom, match="no copy of snapshot 'snap' now"):
        await lvm.copy(Source(SourceKind.SNAPSHOT, snapshot.id), "late")

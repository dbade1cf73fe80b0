"""Changing volumes over simulated hosts, with faults."""

from __future__ import annotations

import asyncio

import pytest

from csi.core.errors import Conflict, InvalidRequest, NoSpace, NotFound, Unavailable
from csi.core.model import BrickRole, OperationKind, Volume
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.world import Fault, Kind
from csi.ports import GlusterVolume
from csi.service.modification import ModifyRequest
from tests.crash.traces import traces
from tests.unit.service.conftest import GIB, Pool
from tests.unit.service.test_expansion import check, expand, used

PROFILE = "performance.io-cache=off\nuser.cifs=off\nclient.event-threads=4\n"


async def modify(pool: Pool, volume: Volume, **parameters: str) -> Volume:
    return await pool.core.modification.modify(ModifyRequest.of(volume.id, parameters))


async def gluster(pool: Pool, volume: Volume) -> GlusterVolume:
    found = await pool.core.outside.gluster.info(pool.core.volumes._steps.pool(volume.cluster_id), volume.gluster_name)
    assert found is not None
    return found


@pytest.fixture
def profiles(pool: Pool) -> None:
    for machine in pool.world.machines.values():
        machine.make_directory("/var/lib/glusterd/groups", parents=True)
        machine.write("/var/lib/glusterd/groups/virt", PROFILE)
    pool.clean = traces(pool.world)


def open_kinds(pool: Pool) -> list[OperationKind]:
    return [operation.kind for operation in pool.core.outside.store.inventory.operations.values()]


@pytest.mark.usefixtures("profiles")
async def test_options_and_profile(pool: Pool) -> None:
    volume = await pool.create(volumeoptions="performance.read-ahead off")
    changed = await modify(pool, volume, volumeOptions="client.event-threads 8", profile="virt")
    found = dict((await gluster(pool, volume)).options)
    assert found["client.event-threads"] == "8"  # over the profile's
    assert found["performance.io-cache"] == "off"
    assert found["performance.read-ahead"] == "off"
    assert changed.spec.profile == "virt"
    assert pool.core.volumes.get(volume.id) == changed
    check(pool, changed)
    assert await modify(pool, changed, PROFILE="virt") == changed
    # A repeated creation is answered with it: the class is not what it was changed to.
    assert await pool.create(volumeoptions="performance.read-ahead off") == changed
    with pytest.raises(Conflict):
        await pool.create(rootmode="0777")
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"color": "blue"}, "arbiter, profile, volumeOptions, volumeType"),
        ({"volumeOptions": "features.shard on"}, "performance."),
        ({"volumeOptions": "auth.allow *"}, "performance."),
        ({"volumeOptions": "user.heketi.arbiter true"}, "performance."),
        ({"profile": "gluster-block"}, "virt"),
        ({"profile": "virt"}, "groups"),  # the hosts have none
        ({"volumeType": "replicate:2"}, "replicate:2"),
        ({"volumeType": "disperse:2:1"}, "replicate:2"),
        ({"arbiter": "true"}, "replicate:2"),
        ({"volumeType": "replicate:3", "VOLUMETYPE": "replicate:3"}, "once"),
    ],
)
async def test_what_can_not_be_changed(pool: Pool, parameters: dict[str, str], word: str) -> None:
    volume = await pool.create()
    with pytest.raises(InvalidRequest, match=word.replace(".", r"\.")):
        await modify(pool, volume, **parameters)
    assert pool.core.volumes.get(volume.id) == volume
    assert open_kinds(pool) == []


async def test_a_value_that_gluster_refuses_changes_nothing(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.inject(Fault("*", "*volume set*", Kind.ERROR))
    with pytest.raises(InvalidRequest, match="injected"):
        await modify(pool, volume, volumeOptions="performance.io-cache maybe")
    assert pool.core.volumes.get(volume.id) == volume
    assert open_kinds(pool) == []


@pytest.mark.parametrize("arbiter", ["true", "false"])
async def test_a_third_copy(pool: Pool, arbiter: str) -> None:
    volume = await pool.create(volumetype="replicate:2")
    changed = await modify(pool, volume, volumeType="replicate:3", arbiter=arbiter)
    assert [brick.role for brick in changed.bricks] == [
        BrickRole.DATA,
        BrickRole.DATA,
        BrickRole.ARBITER if arbiter == "true" else BrickRole.DATA,
    ]
    assert len({brick.host_id for brick in changed.bricks}) == 3
    check(pool, changed)
    found = await gluster(pool, changed)
    assert [path for _, path in found.bricks] == [brick.path for brick in changed.bricks]
    assert not (await pool.core.volumes.condition(changed)).abnormal
    assert used(pool) == sum(brick.footprint for brick in changed.bricks)
    check(pool, await expand(pool, changed, 2 * GIB))
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []
    assert used(pool) == 0


async def test_the_healing_is_followed_to_its_end(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = await pool.create(volumetype="replicate:2")
    await modify(pool, volume, volumeType="replicate:3")
    assert isinstance(pool.world.glusterd, SimulatedGlusterd)
    simulated = next(iter(pool.world.glusterd._pools.values())).volumes[volume.gluster_name]
    simulated.unhealed = 7
    asked: list[list[str]] = []
    answer = pool.world.glusterd.answer

    def noted(machine: Machine, words: list[str]) -> str:
        asked.append(words)
        return answer(machine, words)

    monkeypatch.setattr(pool.world.glusterd, "answer", noted)
    await pool.core.recovery.look()
    assert open_kinds(pool) == [OperationKind.HEAL]
    # A daemon that looked too early would look again in ten minutes.
    assert ["volume", "heal", volume.gluster_name] in asked
    simulated.unhealed = 0
    await pool.core.recovery.look()  # too soon
    assert open_kinds(pool) == [OperationKind.HEAL]
    pool.core.recovery._due.clear()
    await pool.core.recovery.look()
    assert open_kinds(pool) == []


async def test_no_host_for_a_third_copy(pool: Pool) -> None:
    volume = await pool.create(volumetype="replicate:2", size=9 * GIB)
    others = {brick.host_id for brick in volume.bricks}
    filler = await pool.create("filler", size=18 * GIB, volumetype="none")
    assert filler.bricks[0].host_id not in others
    with pytest.raises(NoSpace):
        await modify(pool, volume, volumeType="replicate:3")
    assert open_kinds(pool) == []


@pytest.mark.parametrize("command", ["csi_brick_format*", "*volume add-brick*", "csi_brick_grow*"])
@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.DROP_BEFORE, Kind.DROP_AFTER])
async def test_a_change_that_fails_half_way_goes_on(pool: Pool, command: str, kind: Kind) -> None:
    volume = await pool.create(volumetype="replicate:2")
    pool.world.inject(Fault("*", command, kind))
    try:
        await modify(pool, volume, volumeType="replicate:3")
    except Unavailable:
        assert pool.core.volumes.get(volume.id) == volume
        await pool.core.recovery.look()
    changed = pool.core.volumes.get(volume.id)
    assert len(changed.bricks) == 3
    check(pool, changed)
    await pool.core.recovery.look()
    assert open_kinds(pool) == []


@pytest.mark.parametrize("command", ["csi_brick_format*", "*volume add-brick*", "csi_brick_grow*"])
async def test_it_is_deleted_in_the_middle_of_a_change(pool: Pool, command: str) -> None:
    volume = await pool.create(volumetype="replicate:2")
    pool.world.inject(Fault("*", command, Kind.ERROR))
    with pytest.raises(Unavailable):
        await modify(pool, volume, volumeType="replicate:3")
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_half_changed_volume_is_found_again(pool: Pool) -> None:
    volume = await pool.create(volumetype="replicate:2")
    pool.world.inject(Fault("*", "csi_brick_grow*", Kind.ERROR))
    with pytest.raises(Unavailable):
        await modify(pool, volume, volumeType="replicate:3")
    await pool.forget()
    await pool.load()
    found = pool.core.volumes.get(volume.id)
    assert found.spec.durability.set_size == len(found.bricks) == 3


async def test_unknown_volumes(pool: Pool) -> None:
    for unknown in ("fake-vol-id", "0" * 32):
        with pytest.raises(NotFound):
            await pool.core.modification.modify(ModifyRequest.of(unknown, {}))


async def test_an_expansion_that_is_open_is_finished_first(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.inject(Fault("h2", "csi_brick_grow*", Kind.ERROR))
    with pytest.raises(Unavailable):
        await expand(pool, volume, 2 * GIB)
    changed = await modify(pool, volume, volumeOptions="performance.io-cache off")
    assert changed.size == 2 * GIB
    check(pool, changed)
    same = await asyncio.gather(*(modify(pool, volume, volumeOptions="performance.io-cache on") for _ in range(3)))
    assert same[0] == same[2]

"""Creating, deleting and looking up volumes over simulated hosts, with faults."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from csi.core import topologyfile
from csi.core.errors import (
    Busy,
    CommandFailed,
    Conflict,
    DriverError,
    GidsExhausted,
    GlusterFailed,
    HostUnreachable,
    Incoherent,
    InvalidRequest,
    InvalidToken,
    NoSpace,
    NotFound,
    Unavailable,
)
from csi.core.model import VolumeSpec
from csi.hosts.simulated.world import Fault, Kind
from tests.unit.service.conftest import GIB, Pool


async def test_a_volume_is_made_online_and_ends_without_a_trace(pool: Pool) -> None:
    volume = await pool.create()
    assert (volume.gid, volume.size, len(volume.bricks)) == (2000, GIB, 3)
    assert not (await pool.core.volumes.condition(volume)).abnormal
    assert pool.core.volumes.get(volume.id) == volume
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []
    with pytest.raises(NotFound):
        pool.core.volumes.get(volume.id)


async def test_the_same_request_again_gives_the_same_volume(pool: Pool) -> None:
    assert await pool.create() == await pool.create()


async def test_many_at_once_get_gids_of_their_own(pool: Pool) -> None:
    volumes = await asyncio.gather(*(pool.create(f"pvc-{i}") for i in range(15)))
    assert {v.gid for v in volumes} == set(range(2000, 2015))
    await asyncio.gather(*(pool.core.volumes.delete(v.id) for v in volumes))
    assert pool.left() == []


async def test_another_size_or_class_is_a_conflict(pool: Pool) -> None:
    await pool.create()
    with pytest.raises(Conflict, match="asked for at least"):
        await pool.create(size=5 * GIB)
    with pytest.raises(Conflict, match="durability"):
        await pool.create(volumetype="replicate:2")


async def test_no_space_says_what_would_fit_and_changes_nothing(pool: Pool) -> None:
    with pytest.raises(NoSpace) as refused:
        await pool.create(size=100 * GIB)
    assert refused.value.largest > 15 * GIB
    assert pool.left() == []
    await pool.create("pvc-largest", refused.value.largest)


async def test_gids_run_out_and_come_back(pool: Pool) -> None:
    only: dict[str, Any] = {"gidmin": "3000", "gidmax": "3000"}
    volume = await pool.create("first", **only)
    with pytest.raises(GidsExhausted, match="3000"):
        await pool.create("second", **only)
    await pool.core.volumes.delete(volume.id)
    assert (await pool.create("second", **only)).gid == 3000


async def test_an_unknown_cluster_is_named(pool: Pool) -> None:
    with pytest.raises(InvalidRequest, match=r"a{32}"):
        await pool.create(clusterid="a" * 32)


@pytest.mark.parametrize("command", ["csi_brick_format*", "csi_brick_mount*", "*volume create*", "*volume start*"])
async def test_a_failing_command_is_undone_and_its_error_told(pool: Pool, command: str) -> None:
    pool.world.inject(Fault("h2" if "volume" not in command else "*", command, Kind.ERROR, times=1, stderr="no luck"))
    with pytest.raises((CommandFailed, GlusterFailed, DriverError)):
        await pool.create()
    pool.world.faults.clear()
    await pool.core.recovery.look()
    assert pool.left() == []
    await pool.create()


@pytest.mark.parametrize("kind", [Kind.DROP_BEFORE, Kind.DROP_AFTER])
@pytest.mark.parametrize("nth", range(1, 8))
async def test_a_lost_connection_leaves_nothing_behind(pool: Pool, kind: Kind, nth: int) -> None:
    fault = pool.world.inject(Fault("h2", "*", kind, nth=nth))
    try:
        await pool.create()
    except (HostUnreachable, Unavailable):
        await pool.core.recovery.look()
        assert pool.left() == []
    assert fault.struck == 1
    volume = await pool.create()
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_host_that_is_down_blocks_a_creation_until_it_is_back(pool: Pool) -> None:
    pool.world.machines["h3"].shut_down()
    with pytest.raises((Unavailable, HostUnreachable)):
        await pool.create()
    with pytest.raises((Unavailable, HostUnreachable)):
        await pool.create()
    pool.world.machines["h3"].boot()
    volume = await pool.create()
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_deletion_waits_for_a_host_and_finishes_by_itself(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.machines["h1"].shut_down()
    with pytest.raises(Unavailable, match="waits for its hosts"):
        await pool.core.volumes.delete(volume.id)
    with pytest.raises(NotFound):
        pool.core.volumes.get(volume.id)
    with pytest.raises(Busy, match="still being deleted"):
        await pool.create()
    pool.world.machines["h1"].boot()
    await pool.core.recovery.look()
    assert pool.left() == []


async def test_a_strange_identity_stops_a_deletion_before_it_begins(pool: Pool) -> None:
    volume = await pool.create()
    machine = pool.world.machines["h2"]
    path = next(f"{mount}/brick.json" for mount in machine.mounts if "/bricks/" in mount)
    original = machine.read(path)
    machine.write(path, original.replace('"pvc"', '"another"'))
    with pytest.raises(Incoherent, match="another"):
        await pool.core.volumes.delete(volume.id)
    present = pool.core.volumes.get(volume.id)
    assert not (await pool.core.volumes.condition(present)).abnormal
    machine.write(path, original)
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_lost_state_is_rebuilt_by_loading_the_topology(pool: Pool) -> None:
    volume = await pool.create(gidmin="4000")
    await pool.forget()
    lines = [progress.line for progress in await pool.load()]
    assert any("adopted" in line for line in lines), lines
    assert pool.core.volumes.get(volume.id).bricks == volume.bricks
    other = await pool.create("pvc-other", gidmin="4000")
    assert other.gid == 4001


async def test_a_foreign_volume_of_our_name_is_not_touched(pool: Pool) -> None:
    volume = await pool.create()
    for name in ("h1", "h2", "h3"):
        machine = pool.world.machines[name]
        for path in [f"{m}/brick.json" for m in machine.mounts if "/bricks/" in m]:
            machine.write(path, machine.read(path).replace('"instance":"default"', '"instance":"theirs"'))
    with pytest.raises(Incoherent, match="theirs"):
        await pool.core.volumes.delete(volume.id)
    assert not (await pool.core.volumes.condition(volume)).abnormal


async def test_pages(pool: Pool) -> None:
    ids = sorted([(await pool.create(f"pvc-{i}")).id for i in range(5)])
    first = pool.core.volumes.list("", 2)
    assert [v.id for v in first.volumes] == ids[:2]
    await pool.core.volumes.delete(ids[1])  # the token's own volume
    second = pool.core.volumes.list(first.next_token, 2)
    assert [v.id for v in second.volumes] == ids[2:4]
    third = pool.core.volumes.list(second.next_token, 2)
    assert ([v.id for v in third.volumes], third.next_token) == (ids[4:], "")
    with pytest.raises(InvalidToken):
        pool.core.volumes.list("made up", 0)


async def test_capacity_is_what_can_be_created(pool: Pool) -> None:
    capacity = pool.core.volumes.capacity(VolumeSpec())
    assert capacity.available >= capacity.maximum > 15 * GIB
    await pool.create(size=capacity.maximum)
    assert pool.core.volumes.capacity(VolumeSpec()).maximum < GIB


@pytest.mark.parametrize("volume_id", ["", "nonsense", "a" * 32, "../" * 10])
async def test_deleting_what_does_not_exist_is_fine(pool: Pool, volume_id: str) -> None:
    await pool.core.volumes.delete(volume_id)


async def test_a_host_that_is_down_is_passed_over_when_others_do(pool: Pool) -> None:
    pool.world.add("h4", "10.0.0.4", devices=("/srv/d0",), size=20 * GIB)
    assert not [progress for progress in await pool.load() if progress.failed]
    pool.world.machines["h2"].shut_down()
    volume = await pool.create()
    hosts = pool.core.outside.store.inventory.hosts
    assert {hosts[brick.host_id].manage for brick in volume.bricks} == {"h1", "h3", "h4"}


async def test_a_host_that_is_down_before_anything_was_planned_reserves_nothing(pool: Pool) -> None:
    pool.world.machines["h3"].shut_down()
    with pytest.raises(Unavailable, match="h3"):
        await pool.create()
    assert not pool.core.outside.store.inventory.operations


async def test_a_cluster_that_is_away_does_not_hold_up_the_others(pool: Pool) -> None:
    nodes = []
    for number in range(5, 8):
        pool.world.add(f"h{number}", f"10.0.0.{number}", devices=("/srv/d0",), size=20 * GIB)
        names = {"manage": [f"h{number}"], "storage": [f"10.0.0.{number}"]}
        nodes.append({"node": {"hostnames": names, "zone": 1}, "devices": ["/srv/d0"]})
    second = topologyfile.parse(json.dumps({"clusters": [{"nodes": nodes}]}))
    assert not [p.line async for p in pool.core.topology.load(second) if p.failed]
    for number in range(1, 4):
        pool.world.machines[f"h{number}"].shut_down()
    volume = await pool.create()
    hosts = pool.core.outside.store.inventory.hosts
    assert {hosts[brick.host_id].manage for brick in volume.bricks} == {"h5", "h6", "h7"}

"""Copies whose files get a group of their own, over simulated hosts, with faults."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from csi.core import naming
from csi.core.command import Result
from csi.core.errors import Busy, Unavailable
from csi.core.model import Operation, OperationKind, Snapshot, Source, SourceKind, Volume
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.world import Fault, Kind
from tests.unit.service.conftest import Pool

SOURCE, OTHER = 2000, 3000


def of(record: Snapshot | Volume) -> Source:
    return Source(SourceKind.VOLUME if isinstance(record, Volume) else SourceKind.SNAPSHOT, record.id)


def groups(pool: Pool, volume: Volume, name: str = "") -> set[int]:
    """Of a file, or of the root directory, on all bricks."""
    found = set()
    for brick in volume.bricks:
        host = pool.core.outside.store.inventory.hosts[brick.host_id]
        node = pool.world.machines[host.manage].find(f"{brick.path}/{name}")
        assert node is not None
        found.add(node.gid)
    return found


async def filled(pool: Pool, **parameters: Any) -> Volume:
    volume = await pool.create(**parameters)
    assert volume.gid == SOURCE
    for brick in volume.bricks:
        machine = pool.world.machines[pool.core.outside.store.inventory.hosts[brick.host_id].manage]
        machine.make_directory(f"{brick.path}/deep").gid = SOURCE
        machine.write(f"{brick.path}/deep/file", "text").gid = SOURCE
        machine.write(f"{brick.path}/other", "text").gid = OTHER
    return volume


def open_operations(pool: Pool) -> list[Operation]:
    return list(pool.core.outside.store.inventory.operations.values())


@pytest.mark.parametrize("kind", SourceKind)
@pytest.mark.parametrize("type_", ["replicate:3", "replicate:2", "disperse:2:1", "none"])
async def test_all_files_of_the_group_have_the_new_one(pool: Pool, kind: SourceKind, type_: str) -> None:
    volume = await filled(pool, volumetype=type_)
    snapshot = await pool.core.snapshots.create("s", volume.id)
    made = await pool.copy(of(volume if kind is SourceKind.VOLUME else snapshot), restoregid="new", volumetype=type_)
    assert made.gid == SOURCE + 1
    assert made.regroup_from is None
    assert groups(pool, made) == groups(pool, made, "deep") == groups(pool, made, "deep/file") == {made.gid}
    assert groups(pool, made, "other") == {OTHER}
    assert groups(pool, volume) == groups(pool, volume, "deep/file") == {SOURCE}
    assert open_operations(pool) == []
    assert await pool.copy(made.source or of(volume), restoregid="new", volumetype=type_) == made
    for one in (made, volume):
        await pool.core.volumes.delete(one.id)
    await pool.core.snapshots.delete(snapshot.id)
    assert pool.left() == []


async def test_the_source_s_group_is_kept_where_nothing_is_said(pool: Pool) -> None:
    volume = await filled(pool)
    choices: list[dict[str, Any]] = [{}, {"restoregid": "source"}]
    for said in choices:
        made = await pool.copy(of(volume), **said)
        assert made.gid == SOURCE
        assert groups(pool, made, "deep/file") == {SOURCE}
        await pool.core.volumes.delete(made.id)


async def test_a_new_volume_takes_no_notice(pool: Pool) -> None:
    assert (await pool.create(restoregid="new")).regroup_from is None
    assert open_operations(pool) == []


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.DROP_BEFORE, Kind.DROP_AFTER])
async def test_nobody_is_told_of_it_before_that_is_done(pool: Pool, kind: Kind) -> None:
    volume = await filled(pool)
    snapshot = await pool.core.snapshots.create("s", volume.id)
    pool.world.inject(Fault("*", "csi_regroup *", kind, times=100))
    for _ in range(2):
        with pytest.raises(Unavailable, match="regrouped to GID 2001"):
            await pool.copy(of(snapshot), restoregid="new")
    (operation,) = open_operations(pool)
    assert operation.kind is OperationKind.REGROUP
    assert operation.attempts == 2
    made = pool.core.volumes.get(naming.volume_id("copy"))
    assert made.regroup_from == SOURCE
    with pytest.raises(Busy, match="another group"):
        await pool.core.snapshots.create("t", made.id)
    with pytest.raises(Busy, match="another group"):
        await pool.copy(of(made), "of-copy")
    pool.world.faults.clear()
    await pool.core.recovery.look()
    assert open_operations(pool) == []
    assert groups(pool, made, "deep/file") == {made.gid}
    assert (await pool.copy(of(snapshot), restoregid="new")).regroup_from is None


async def test_another_host_goes_on(pool: Pool) -> None:
    volume = await filled(pool)
    snapshot = await pool.core.snapshots.create("s", volume.id)
    fault = pool.world.inject(Fault("*", "csi_regroup *", Kind.DROP_BEFORE))
    made = await pool.copy(of(snapshot), restoregid="new")
    assert fault.struck == 1
    assert groups(pool, made, "deep/file") == {made.gid}


async def test_it_goes_on_while_nobody_waits(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csi.service.regrouping._PAUSE", 0.01)
    from csi.hosts.simulated import regroupverbs

    volume = await filled(pool)
    looks = 0

    def slow(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
        nonlocal looks
        looks += 1
        return regroupverbs.run(pool.world, machine, argv) if looks > 20 else Result(0, f"{looks} more\n")

    pool.world.programs["csi_regroup"] = slow
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.copy(of(volume), restoregid="new"), 0.05)
        with pytest.raises(Busy, match="under way"):
            await pool.core.volumes.delete(naming.volume_id("copy"))
    made = await pool.copy(of(volume), restoregid="new")
    assert looks == 21
    assert groups(pool, made, "deep/file") == {made.gid}


async def test_deleted_before_it_is_done(pool: Pool) -> None:
    volume = await filled(pool)
    pool.world.inject(Fault("*", "csi_regroup *", Kind.ERROR, times=100))
    with pytest.raises(Unavailable, match="injected"):
        await pool.copy(of(volume), restoregid="new")
    for one in (naming.volume_id("copy"), volume.id):
        await pool.core.volumes.delete(one)
    assert pool.left() == []


async def test_found_again_it_is_done_before_anybody_is_told(pool: Pool) -> None:
    volume = await filled(pool)
    pool.world.inject(Fault("*", "csi_regroup *", Kind.ERROR, times=100))
    with pytest.raises(Unavailable):
        await pool.copy(of(volume), restoregid="new")
    await pool.forget()
    await pool.load()
    pool.world.faults.clear()
    made = await pool.copy(of(volume), restoregid="new")
    assert groups(pool, made, "deep/file") == {made.gid} != {SOURCE}
    await pool.forget()
    await pool.load()
    assert pool.core.volumes.get(made.id).regroup_from is None


async def test_groups_are_counted(pool: Pool) -> None:
    volume = await filled(pool)
    first = await pool.copy(of(volume), "first", restoregid="new")
    second = await pool.copy(of(first), "second", restoregid="new")
    assert [v.gid for v in (volume, first, second)] == [2000, 2001, 2002]
    await pool.core.volumes.delete(first.id)
    assert (await pool.copy(of(second), "third", restoregid="new")).gid == 2001

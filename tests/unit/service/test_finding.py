"""Snapshots and groups found again on their hosts when the state is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.copyports import FoundCopy
from csi.core.errors import NotFound
from csi.core.model import ClusterId, Gid, Snapshot, SnapshotState
from csi.ports import Remove
from csi.service import finding
from csi.service.restoring import place
from csi.service.snapshots import Group
from tests.unit.service.conftest import Pool
from tests.unit.service.test_regrouping import of


def told(snapshot: Snapshot) -> Snapshot:
    """What of it comes back: not its moment to the second, nor what it was counted as."""
    copies = tuple(replace(copy, footprint=0) for copy in snapshot.copies)
    return replace(snapshot, copies=copies, created=0.0, started=0.0, version=0)


async def lines(pool: Pool) -> list[str]:
    await pool.forget()
    return [progress.line for progress in await pool.load()]


@pytest.mark.parametrize("type_", ["replicate:3", "disperse:2:1", "none"])
async def test_a_snapshot_is_found_and_serves_as_before(pool: Pool, type_: str) -> None:
    volume = await pool.create(volumetype=type_)
    taken = await pool.core.snapshots.create("s", volume.id)
    await pool.core.volumes.delete(volume.id)
    assert any(f"Found snapshot s ({taken.id})" in line for line in await lines(pool))
    found = pool.core.snapshots.get(taken.id)
    assert told(found) == told(taken)
    assert found.created > 0
    assert all(copy.footprint > 0 for copy in found.copies)
    made = await pool.copy(of(found), volumetype=type_)
    assert made.gid == volume.gid
    assert not [line for line in await lines(pool) if "Stray" in line]
    await pool.core.volumes.delete(made.id)
    await pool.core.snapshots.delete(taken.id)
    assert pool.left() == []


async def test_what_has_a_record_stays_as_it_is(pool: Pool) -> None:
    taken = await pool.core.snapshots.create("s", (await pool.create()).id)
    assert not [progress.line for progress in await pool.load() if "snapshot" in progress.line]
    assert pool.core.snapshots.get(taken.id) == taken


async def test_a_group_is_found_as_a_whole(pool: Pool) -> None:
    volumes = [await pool.create("a"), await pool.create("b")]
    group = await pool.core.snapshots.create_group("g", [v.id for v in volumes])
    await lines(pool)
    found = pool.core.snapshots.get_group(group.id, [s.id for s in group.snapshots])
    assert [told(s) for s in found.snapshots] == [told(s) for s in group.snapshots]
    assert found.name == "g"
    await pool.core.snapshots.delete_group(group.id, [])
    for volume in volumes:
        await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def halved(pool: Pool, *gone: str) -> tuple[Snapshot, Group]:
    """A snapshot and a group, each without these files of one of its copies."""
    volumes = [await pool.create("a"), await pool.create("b")]
    alone = await pool.core.snapshots.create("s", volumes[0].id)
    group = await pool.core.snapshots.create_group("g", [v.id for v in volumes])
    inventory = pool.core.outside.store.inventory
    for copy in (alone.copies[1], group.snapshots[0].copies[2]):
        host, device = inventory.hosts[copy.host_id], inventory.devices[copy.device_id]
        for part in gone:
            pool.world.machines[host.manage].unlink(f"{device.path}/{copy.id}.{part}")
    return alone, group


@pytest.mark.parametrize("gone", ["copy", "copy-of"])
async def test_one_that_is_not_whole_is_told_and_left_alone(pool: Pool, gone: str) -> None:
    alone, _ = await halved(pool, gone)
    inventory = pool.core.outside.store.inventory
    strays = [line for line in await lines(pool) if line.startswith("Stray")]
    assert len(strays) == 3
    assert any(
        f"'s' ({alone.id}) of volume 'a' is not whole: 1 of its 3 copies are missing: 1 of set 0" in s for s in strays
    )
    assert any("is whole, but" in stray and "of its group 'g' is not" in stray for stray in strays)
    with pytest.raises(NotFound):
        pool.core.snapshots.get(alone.id)
    assert not pool.core.outside.store.inventory.snapshots
    host = pool.world.machines[inventory.hosts[alone.copies[0].host_id].manage]
    assert host.find(f"{inventory.devices[alone.copies[0].device_id].path}/{alone.copies[0].id}.copy") is not None


async def test_what_is_left_of_one_goes_when_it_is_deleted(pool: Pool) -> None:
    alone, group = await halved(pool, "copy", "copy-of")
    assert len([line for line in await lines(pool) if line.startswith("Stray")]) == 3
    await pool.core.snapshots.delete(alone.id)
    assert len([progress.line for progress in await pool.load() if progress.line.startswith("Stray")]) == 2
    with pytest.raises(NotFound):
        pool.core.snapshots.get_group(group.id, [])
    await pool.core.snapshots.delete_group(group.id, [])
    for snapshot in group.snapshots:
        await pool.core.volumes.delete(snapshot.volume_id)
    assert pool.left() == []


async def test_what_they_say_must_agree(pool: Pool) -> None:
    taken = await pool.core.snapshots.create("s", (await pool.create()).id)
    inventory = pool.core.outside.store.inventory
    parts = [FoundCopy(c.identity, 4096, 5.0) for c in place(taken, "default", inventory)]
    instance = parts[0].identity.instance

    def assemble(parts: list[FoundCopy], of: str = instance) -> finding.FoundSnapshots:
        return finding.assemble(parts, instance=of, cluster=ClusterId("c"), known=set(), inventory=inventory)

    (whole,) = assemble(parts[::-1]).snapshots
    assert whole.state is SnapshotState.READY
    assert whole.copies == tuple(replace(c, footprint=whole.copies[0].footprint) for c in taken.copies)
    assert assemble(parts, "another") == finding.FoundSnapshots()
    for other in (replace(parts[1].identity, gid=Gid(9)), replace(parts[1].identity, volume_name="x")):
        (stray,) = assemble([parts[0], replace(parts[1], identity=other), parts[2]]).strays
        assert "different things" in stray
    (stray,) = assemble([*parts, parts[0]]).strays
    assert "two of one" in stray
    # Copies of an earlier version do not say how many they are.
    older = [replace(p, identity=replace(p.identity, total=0)) for p in parts]
    assert len(assemble(older).snapshots) == 1
    assert "1 of its 3 copies are missing" in assemble(older[:2]).strays[0]


async def test_a_deletion_finds_what_it_is_of(pool: Pool) -> None:
    volumes = [await pool.create("a"), await pool.create("b")]
    alone = await pool.core.snapshots.create("s", volumes[0].id)
    group = await pool.core.snapshots.create_group("g", [v.id for v in volumes])
    await pool.load()
    store = pool.core.outside.store
    for ended in (pool.core.snapshots.delete(alone.id), pool.core.snapshots.delete_group(group.id, [])):
        await store.commit([Remove(s) for s in store.inventory.snapshots.values()])
        await ended
    await pool.core.snapshots.delete("f" * 32)
    for volume in volumes:
        await pool.core.volumes.delete(volume.id)
    assert pool.left() == []

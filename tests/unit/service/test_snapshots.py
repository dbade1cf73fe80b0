"""Snapshots, copies of volumes and groups over simulated hosts, with faults."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from csi.bricks.filecopies import FileCopies
from csi.copyports import Copied, Hold, Pair
from csi.core.errors import (
    Busy,
    CannotCopy,
    CommandFailed,
    Conflict,
    HostUnreachable,
    Incoherent,
    InvalidRequest,
    InvalidToken,
    NoRoom,
    NotFound,
    SizeOutOfRange,
    TooMany,
    Unavailable,
)
from csi.core.model import Availability, Host, Snapshot, SnapshotState, Source, SourceKind, Volume
from csi.hosts.simulated.filesystem import Directory
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.world import Fault, Kind
from csi.ports import Put
from tests.crash.traces import held
from tests.unit.service.conftest import GIB, Pool


def of(record: Snapshot | Volume) -> Source:
    return Source(SourceKind.VOLUME if isinstance(record, Volume) else SourceKind.SNAPSHOT, record.id)


def write(pool: Pool, volume: Volume, name: str, text: str) -> None:
    for brick in volume.bricks:
        host = pool.core.outside.store.inventory.hosts[brick.host_id]
        pool.world.machines[host.manage].write(f"{brick.path}/{name}", text)


def read(pool: Pool, volume: Volume, name: str) -> set[str]:
    hosts = pool.core.outside.store.inventory.hosts
    return {pool.world.machines[hosts[b.host_id].manage].read(f"{b.path}/{name}") for b in volume.bricks}


async def test_a_snapshot_shows_what_was_there_and_is_all_that_is_left(pool: Pool) -> None:
    volume = await pool.create()
    write(pool, volume, "file", "before")
    snapshot = await pool.core.snapshots.create("s", volume.id)
    write(pool, volume, "file", "after")
    assert snapshot.state is SnapshotState.READY
    assert snapshot.created > 0
    assert held(pool.world) == []
    await pool.core.volumes.delete(volume.id)
    restored = await pool.copy(of(snapshot))
    assert read(pool, restored, "file") == {"before"}
    assert restored.gid == volume.gid
    assert restored.source == of(snapshot)
    assert not (await pool.core.volumes.condition(restored)).abnormal
    await pool.core.snapshots.delete(snapshot.id)
    assert read(pool, restored, "file") == {"before"}
    await pool.core.volumes.delete(restored.id)
    assert pool.left() == []


async def test_a_clone_is_a_volume_of_its_own(pool: Pool) -> None:
    volume = await pool.create()
    write(pool, volume, "file", "before")
    clone = await pool.copy(of(volume))
    write(pool, volume, "file", "after")
    write(pool, clone, "other", "only here")
    assert read(pool, clone, "file") == {"before"}
    assert clone.source == of(volume)
    assert clone == await pool.copy(of(volume))
    await pool.core.volumes.delete(volume.id)
    await pool.core.volumes.delete(clone.id)
    assert pool.left() == []


async def test_a_gid_rests_when_the_last_that_has_it_is_gone(pool: Pool) -> None:
    journal = pool.core.volumes._journal
    journal.gid_rest = 1000.0
    volume = await pool.create()
    snapshot = await pool.core.snapshots.create("s", volume.id)
    await pool.core.volumes.delete(volume.id)
    assert not journal.inventory.resting
    restored = await pool.copy(of(snapshot))
    await pool.core.snapshots.delete(snapshot.id)
    assert not journal.inventory.resting
    assert (await pool.create("other")).gid == 2001
    await pool.core.volumes.delete(restored.id)
    assert [rest.gid for rest in journal.inventory.resting.values()] == [2000]


async def test_the_same_again_is_the_same_and_another_source_a_conflict(pool: Pool) -> None:
    first, second = await pool.create("a"), await pool.create("b")
    snapshot = await pool.core.snapshots.create("s", first.id)
    assert await pool.core.snapshots.create("s", first.id) == snapshot
    with pytest.raises(Conflict, match=second.id):
        await pool.core.snapshots.create("s", second.id)
    await pool.copy(of(snapshot))
    with pytest.raises(Conflict, match="it was made of snapshot"):
        await pool.copy(of(first))
    with pytest.raises(Conflict, match="asked for nothing"):
        await pool.create("copy")


async def test_what_cannot_be_copied_is_said(pool: Pool) -> None:
    volume = await pool.create()
    snapshot = await pool.core.snapshots.create("s", volume.id)
    for source in (of(volume), of(snapshot)):
        with pytest.raises(SizeOutOfRange, match="required_bytes"):
            await pool.copy(source, size=GIB // 2)
        with pytest.raises(SizeOutOfRange, match="limit_bytes"):
            await pool.copy(source, limit=GIB // 2)
        with pytest.raises(InvalidRequest, match="volumeType"):
            await pool.copy(source, volumetype="replicate:2")
        with pytest.raises(InvalidRequest, match="cluster"):
            await pool.copy(source, clusterid="a" * 32)
    with pytest.raises(NotFound, match="volume"):
        await pool.core.snapshots.create("t", "f" * 32)
    for kind in SourceKind:
        with pytest.raises(NotFound, match=kind):
            await pool.copy(Source(kind, "nonsense"))
    await pool.core.snapshots.delete(snapshot.id)
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_volume_on_its_way_out_is_not_copied(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.machines["h2"].shut_down()
    with pytest.raises(Unavailable):
        await pool.core.volumes.delete(volume.id)
    with pytest.raises(Busy, match="being deleted"):
        await pool.core.snapshots.create("s", volume.id)
    with pytest.raises(Busy, match="being deleted"):
        await pool.copy(of(volume))


async def test_no_more_than_the_limit(pool: Pool) -> None:
    volume = await pool.create()
    pool.core.snapshots._limit = 2
    first = await pool.core.snapshots.create("s1", volume.id)
    await pool.core.snapshots.create("s2", volume.id)
    with pytest.raises(TooMany, match=r"has 2 snapshots.*per_volume"):
        await pool.core.snapshots.create("s3", volume.id)
    await pool.core.snapshots.delete(first.id)
    await pool.core.snapshots.create("s3", volume.id)


async def test_copies_are_counted(pool: Pool) -> None:
    volume = await pool.create(size=9 * GIB)
    device = pool.core.outside.store.inventory.devices[volume.bricks[0].device_id]
    free = pool.core.outside.store.inventory.free(device)
    snapshot = await pool.core.snapshots.create("s", volume.id)
    assert pool.core.outside.store.inventory.free(device) == free - snapshot.copies[0].footprint < free
    clone = await pool.copy(of(volume))
    with pytest.raises(NoRoom, match=r"/srv/d0 has \d+ bytes free"):
        await pool.copy(of(snapshot), "second")
    await pool.core.volumes.delete(clone.id)
    await pool.copy(of(snapshot), "second")


async def test_a_closed_device_takes_no_copy(pool: Pool) -> None:
    volume = await pool.create()
    store = pool.core.outside.store
    device = store.inventory.devices[volume.bricks[0].device_id]
    await store.commit([Put(replace(device, state=Availability.OFFLINE))])
    with pytest.raises(NoRoom, match="closed"):
        await pool.core.snapshots.create("s", volume.id)


# --- not fit for it ---------------------------------------------------------------------------


async def test_not_while_a_brick_is_down(pool: Pool) -> None:
    volume = await pool.create()
    glusterd = pool.world.glusterd
    assert isinstance(glusterd, SimulatedGlusterd)
    glusterd.end_bricks(pool.world.machines["h2"], volume.gluster_name)
    with pytest.raises(Unavailable, match=r"bricks are down: 10\.0\.0\.2"):
        await pool.core.snapshots.create("s", volume.id)
    with pytest.raises(Unavailable, match="bricks are down"):
        await pool.copy(of(volume))
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


@pytest.mark.parametrize("what", ["snapshot", "clone"])
async def test_not_if_a_brick_goes_down_meanwhile(pool: Pool, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    glusterd, copy = pool.world.glusterd, FileCopies.copy
    assert isinstance(glusterd, SimulatedGlusterd)
    volume = await pool.create()

    async def last_copies(self: FileCopies, host: Host, pairs: Sequence[Pair], hold: Hold) -> Copied:
        copied = await copy(self, host, pairs, hold)
        glusterd.end_bricks(pool.world.machines["h2"], volume.gluster_name)
        return copied

    monkeypatch.setattr(FileCopies, "copy", last_copies)
    with pytest.raises(Unavailable, match=r"no longer whole when it had been copied: bricks are down: 10\.0\.0\.2"):
        await (pool.core.snapshots.create("s", volume.id) if what == "snapshot" else pool.copy(of(volume)))
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_not_while_files_wait_to_be_healed(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csi.gluster.barrier._HEAL_PATIENCE", 0.01)
    volume = await pool.create()
    glusterd = pool.world.glusterd
    assert isinstance(glusterd, SimulatedGlusterd)
    glusterd._pool(pool.world.machines["h1"]).volumes[volume.gluster_name].unhealed = 2
    with pytest.raises(Unavailable, match="6 files wait to be healed"):
        await pool.core.snapshots.create("s", volume.id)


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.DROP_BEFORE, Kind.DROP_AFTER])
@pytest.mark.parametrize(
    "command",
    [
        "csi_bricks_flush*",
        "csi_brick_ours*",
        "csi_copy_tag*",
        "csi_barrier_watch*",
        "gluster*barrier*enable",
        "csi_bricks_freeze*",
        "csi_share*",
        "date*",
        "csi_bricks_thaw*",
        "gluster*barrier*disable",
        "csi_barrier_unwatch*",
        "csi_copies_seal*",
    ],
)
async def test_what_fails_leaves_nothing(pool: Pool, command: str, kind: Kind) -> None:
    """Nothing that holds writers up, and no copy; what a lost host has to end by itself it ends."""
    volume = await pool.create()
    fault = pool.world.inject(Fault("h2" if "barrier" not in command else "*", command, kind, times=10))
    with pytest.raises((CommandFailed, HostUnreachable, Unavailable)):
        await pool.core.snapshots.create("s", volume.id)
    assert fault.struck
    pool.world.faults.clear()
    for machine in pool.world.machines.values():
        machine.pass_time()
    assert held(pool.world) == []
    await pool.core.recovery.look()
    assert not pool.core.outside.store.inventory.snapshots
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_copies_that_took_too_long_are_not_used(pool: Pool) -> None:
    """The watch of a host went off while another one was still at it."""
    volume = await pool.create()
    share = pool.world.programs

    def slow(machine: object, argv: object, stdin: str) -> object:
        from csi.hosts.simulated.copyverbs import COPY_VERBS

        pool.world.machines["h1"].pass_time()
        return COPY_VERBS["csi_share"](machine, argv, stdin)  # type: ignore[arg-type]

    share["csi_share"] = slow  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="could not be copied within"):
        await pool.core.snapshots.create("s", volume.id)
    del share["csi_share"]
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_device_that_cannot_share_blocks_says_so(pool: Pool) -> None:
    volume = await pool.create()
    pool.world.machines["h3"].disks["/dev/disk0"].kind = "ext4"
    with pytest.raises(CannotCopy, match="reflink"):
        await pool.core.snapshots.create("s", volume.id)
    assert held(pool.world) == []
    await pool.core.volumes.delete(volume.id)
    assert pool.left() == []


async def test_a_copy_of_another_is_not_destroyed(pool: Pool) -> None:
    volume = await pool.create()
    snapshot = await pool.core.snapshots.create("s", volume.id)
    machine = pool.world.machines["h2"]
    root = machine.find("/srv/d0")
    assert isinstance(root, Directory)
    tag = next(name for name in root.children if name.endswith(".copy-of"))
    kept = machine.read(f"/srv/d0/{tag}")
    machine.write(f"/srv/d0/{tag}", kept.replace(f'"{snapshot.id}"', f'"{"f" * 32}"'))
    with pytest.raises(Incoherent, match="says snapshot"):
        await pool.core.snapshots.delete(snapshot.id)
    assert pool.core.snapshots.get(snapshot.id).state is SnapshotState.READY
    machine.write(f"/srv/d0/{tag}", kept)
    await pool.core.snapshots.delete(snapshot.id)


async def test_a_snapshot_goes_when_its_hosts_are_back(pool: Pool) -> None:
    volume = await pool.create()
    snapshot = await pool.core.snapshots.create("s", volume.id)
    pool.world.machines["h2"].shut_down()
    with pytest.raises(Unavailable, match="tried again"):
        await pool.core.snapshots.delete(snapshot.id)
    with pytest.raises(NotFound):
        pool.core.snapshots.get(snapshot.id)
    with pytest.raises(Busy, match="being deleted"):
        await pool.core.snapshots.create("s", volume.id)
    assert pool.core.snapshots.list("", 0).snapshots == ()
    pool.world.machines["h2"].boot()
    pool.core.recovery._due.clear()
    await pool.core.recovery.look()
    assert not pool.core.outside.store.inventory.snapshots


# --- side by side -----------------------------------------------------------------------------


async def test_copies_of_one_volume_take_turns(pool: Pool) -> None:
    volume = await pool.create()
    taken, made = await asyncio.gather(
        asyncio.gather(*(pool.core.snapshots.create(f"s{i}", volume.id) for i in range(3))),
        asyncio.gather(*(pool.copy(of(volume), f"clone{i}") for i in range(3))),
    )
    assert (len({one.id for one in taken}), len({one.id for one in made})) == (3, 3)
    assert held(pool.world) == []


async def test_deleting_waits_for_what_is_made_of_it(pool: Pool) -> None:
    volume = await pool.create()
    snapshot = await pool.core.snapshots.create("s", volume.id)
    making = asyncio.create_task(pool.copy(of(snapshot)))
    while not pool.core.outside.store.inventory.operations:
        await asyncio.sleep(0)
    with pytest.raises(Busy, match="being made of snapshot"):
        await pool.core.snapshots.delete(snapshot.id)
    await making
    await pool.core.snapshots.delete(snapshot.id)


# --- lists ------------------------------------------------------------------------------------


async def test_lists_come_in_pages_and_by_source(pool: Pool) -> None:
    first, second = await pool.create("a"), await pool.create("b")
    ids = sorted([(await pool.core.snapshots.create(f"s{i}", first.id)).id for i in range(3)])
    other = await pool.core.snapshots.create("t", second.id)
    snapshots = pool.core.snapshots
    page = snapshots.list("", 2, volume_id=first.id)
    assert [s.id for s in page.snapshots] == ids[:2]
    assert [s.id for s in snapshots.list(page.next_token, 2, volume_id=first.id).snapshots] == ids[2:]
    assert snapshots.list("", 0, snapshot_id=other.id).snapshots == (other,)
    assert snapshots.list("", 0, volume_id="none").snapshots == ()
    assert len(snapshots.list("", 0).snapshots) == 4
    with pytest.raises(InvalidToken):
        snapshots.list("x", 0)


# --- groups -----------------------------------------------------------------------------------


async def test_a_group_is_of_all_its_volumes_and_goes_as_a_whole(pool: Pool) -> None:
    volumes = [await pool.create(f"v{i}") for i in range(3)]
    ids = [volume.id for volume in volumes]
    group = await pool.core.snapshots.create_group("g", ids)
    assert {s.volume_id for s in group.snapshots} == set(ids)
    assert {s.group_id for s in group.snapshots} == {group.id}
    assert len({s.created for s in group.snapshots}) == 1
    assert await pool.core.snapshots.create_group("g", ids[::-1]) == group
    with pytest.raises(Conflict):
        await pool.core.snapshots.create_group("g", ids[:2])
    with pytest.raises(InvalidRequest, match="deleted as a whole"):
        await pool.core.snapshots.delete(group.snapshots[0].id)
    assert pool.core.snapshots.get_group(group.id, [s.id for s in group.snapshots]) == group
    with pytest.raises(InvalidRequest, match="snapshot_ids"):
        pool.core.snapshots.get_group(group.id, [group.snapshots[0].id])
    with pytest.raises(InvalidRequest, match="snapshot_ids"):
        await pool.core.snapshots.delete_group(group.id, ["x"])
    await pool.copy(of(group.snapshots[1]))
    await pool.core.snapshots.delete_group(group.id, [])
    await pool.core.snapshots.delete_group(group.id, [])
    with pytest.raises(NotFound):
        pool.core.snapshots.get_group(group.id, [])


async def test_a_group_of_which_one_cannot_be_copied_is_not_taken(pool: Pool) -> None:
    first, second = await pool.create("a"), await pool.create("b")
    glusterd = pool.world.glusterd
    assert isinstance(glusterd, SimulatedGlusterd)
    glusterd.end_bricks(pool.world.machines["h2"], second.gluster_name)
    with pytest.raises(Unavailable, match="'b' cannot be copied now"):
        await pool.core.snapshots.create_group("g", [first.id, second.id])
    with pytest.raises(NotFound):
        await pool.core.snapshots.create_group("g", [first.id, "f" * 32])
    assert not pool.core.outside.store.inventory.snapshots

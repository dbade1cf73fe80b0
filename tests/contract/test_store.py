"""What every store must do; whether they agree with each other is in ``test_store_agreement.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from csi.core.errors import InUse, StaleState, StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Availability, Backend, Device, DeviceId, Gid, HostId, Record, RestingGid, SnapshotState
from csi.kubernetes.client import KubernetesApi
from csi.ports import Put, Remove, Store
from csi.store.kube import KubeStore
from csi.store.memory import MemoryStore
from csi.store.sqlite import SqliteStore
from tests.api_double import ApiDouble, Server
from tests.contract.records import CLUSTER, DEVICES, HOSTS, TOPOLOGY, creation, put, snapshot, volume
from tests.custom_resources import wipe

Maker = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite", "kube over a double", pytest.param("kube", marks=pytest.mark.cluster)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Maker:
    """Makes store after store on the same state."""
    match request.param:
        case "memory":
            memory = MemoryStore()
            return lambda: memory
        case "sqlite":
            return lambda: SqliteStore(tmp_path / "state.db")
        case "kube over a double":
            server = Server()
            return lambda: KubeStore(ApiDouble(server))
    kubeconfig = str(request.getfixturevalue("custom_resources"))
    asyncio.run(wipe(kubeconfig))
    return lambda: KubeStore(KubernetesApi(kubeconfig))


@pytest.fixture
async def store(make: Maker) -> AsyncIterator[Store]:
    store = make()
    await store.open()
    yield store
    await store.close()


async def reopened(store: Store, make: Maker) -> Inventory:
    await store.close()
    again = make()
    await again.open()
    inventory = again.inventory
    await again.close()
    return inventory


# --- versions ---------------------------------------------------------------------------------


async def test_a_new_store_is_empty(store: Store) -> None:
    assert store.inventory == Inventory()


async def test_versions_count_up_at_each_commit(store: Store) -> None:
    await put(store, CLUSTER)
    assert store.inventory.clusters[CLUSTER.id].version == 1
    await put(store, store.inventory.clusters[CLUSTER.id])
    assert store.inventory.clusters[CLUSTER.id].version == 2


async def test_commit_returns_the_inventory_that_it_made(store: Store) -> None:
    assert await put(store, *TOPOLOGY) is store.inventory


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_put_on_another_version_is_stale(store: Store, version: int) -> None:
    await put(store, CLUSTER)
    await put(store, store.inventory.clusters[CLUSTER.id])
    with pytest.raises(StaleState, match=CLUSTER.id):
        await put(store, replace(CLUSTER, version=version))
    assert store.inventory.clusters[CLUSTER.id].version == 2


async def test_a_put_of_a_record_that_is_gone_is_stale(store: Store) -> None:
    with pytest.raises(StaleState, match="not there any more"):
        await put(store, replace(CLUSTER, version=1))


async def test_a_removal_needs_the_version_too(store: Store) -> None:
    await put(store, CLUSTER)
    with pytest.raises(StaleState):
        await store.commit([Remove(CLUSTER)])
    await store.commit([Remove(store.inventory.clusters[CLUSTER.id])])
    assert store.inventory == Inventory()
    with pytest.raises(StaleState, match="is not there"):
        await store.commit([Remove(replace(CLUSTER, version=1))])


async def test_a_record_may_come_again_after_its_removal(store: Store) -> None:
    await put(store, CLUSTER)
    await store.commit([Remove(store.inventory.clusters[CLUSTER.id])])
    await put(store, CLUSTER)
    assert store.inventory.clusters[CLUSTER.id].version == 1


async def test_a_record_stands_once_in_a_commit(store: Store) -> None:
    with pytest.raises(ValueError, match="twice"):
        await put(store, CLUSTER, CLUSTER)
    assert store.inventory == Inventory()


async def test_records_of_two_kinds_may_share_an_id(store: Store) -> None:
    await put(store, CLUSTER, replace(HOSTS[0], id=HostId(CLUSTER.id)))
    assert len(tuple(store.inventory.records())) == 2


# --- all or nothing ---------------------------------------------------------------------------


async def test_one_stale_change_refuses_all_of_them(store: Store, make: Maker) -> None:
    before = await put(store, *TOPOLOGY)
    with pytest.raises(StaleState):
        await put(store, volume("a"), replace(HOSTS[0], version=7), volume("b"))
    assert store.inventory is before
    assert await reopened(store, make) == before


async def test_an_empty_commit_is_fine(store: Store) -> None:
    before = store.inventory
    assert await store.commit([]) == before


async def test_a_volume_takes_over_from_its_operation(store: Store, make: Maker) -> None:
    await put(store, *TOPOLOGY)
    await put(store, creation(volume("a")))
    used = store.inventory.used
    operation = next(iter(store.inventory.operations.values()))
    await store.commit([Put(operation.volume), Remove(operation)])
    assert store.inventory.used == used
    assert not store.inventory.operations
    assert await reopened(store, make) == Inventory.of(
        [*(replace(r, version=1) for r in TOPOLOGY), replace(volume("a"), version=1)]
    )


# --- snapshots --------------------------------------------------------------------------------


async def test_a_snapshot_never_changes(store: Store) -> None:
    await put(store, *TOPOLOGY)
    snapshot = store.inventory
    before = set(map(repr, snapshot.records()))
    await put(store, volume("a"))
    await put(store, replace(snapshot.hosts[HOSTS[0].id], state=Availability.OFFLINE))
    assert set(map(repr, snapshot.records())) == before
    assert not snapshot.used
    assert snapshot.hosts[HOSTS[0].id].state is Availability.ONLINE


async def test_derived_parts_follow(store: Store) -> None:
    await put(store, *TOPOLOGY)
    await put(store, volume("a", gid=2003), RestingGid(Gid(2001), until=99.5))
    inventory = store.inventory
    assert list(inventory.gids) == [2001, 2003]
    assert inventory.free(inventory.devices[DEVICES[0].id]) == (1 << 40) - (1 << 30)
    assert inventory == Inventory.of(inventory.records())


async def test_a_snapshot_keeps_its_space_its_gid_and_its_device(store: Store) -> None:
    await put(store, *TOPOLOGY, snapshot("s", gid=2005, state=SnapshotState.TAKING))
    inventory = store.inventory
    assert inventory.free(inventory.devices[DEVICES[0].id]) == (1 << 40) - (1 << 29)
    assert list(inventory.gids) == [2005]
    with pytest.raises(InUse, match="still carries bricks"):
        await store.commit([Remove(inventory.devices[DEVICES[0].id])])
    await store.commit([Remove(*inventory.snapshots.values())])
    assert store.inventory == Inventory.of(store.inventory.records())
    assert list(store.inventory.gids) == []


# --- references -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([HOSTS[0]], "cluster"),
        ([DEVICES[0]], "host"),
        ([volume("a")], "cluster"),
        ([CLUSTER, volume("a")], "device"),
        ([CLUSTER, creation(volume("a"))], "device"),
    ],
)
async def test_what_a_record_refers_to_must_be_there(store: Store, records: list[Record], says: str) -> None:
    with pytest.raises(StaleState, match=says):
        await put(store, *records)
    assert store.inventory == Inventory()


async def test_order_in_a_commit_does_not_matter(store: Store, make: Maker) -> None:
    await put(store, volume("a"), *reversed(TOPOLOGY))
    inventory = store.inventory
    await store.commit([Remove(record) for record in inventory.records()])
    assert await reopened(store, make) == Inventory()


@pytest.mark.parametrize("held_by", [volume("a"), creation(volume("a"))])
async def test_what_is_referred_to_must_stay(store: Store, held_by: Record) -> None:
    before = await put(store, *TOPOLOGY, held_by)
    for record in (before.devices[DEVICES[0].id], before.hosts[HOSTS[0].id], before.clusters[CLUSTER.id]):
        with pytest.raises(InUse, match=f"{record.id} still"):
            await store.commit([Remove(record)])
    assert store.inventory is before


async def test_a_device_goes_when_its_last_brick_has_gone(store: Store) -> None:
    await put(store, *TOPOLOGY, volume("a"))
    await put(store, creation(volume("b", gid=2001)))
    kept = store.inventory.devices[DEVICES[2].id]
    await store.commit([Remove(store.inventory.volumes[volume("a").id])])
    with pytest.raises(InUse):
        await store.commit([Remove(kept)])
    await store.commit([Remove(store.inventory.operations[creation(volume("b")).id])])
    await store.commit([Remove(kept)])
    assert DEVICES[2].id not in store.inventory.devices


async def test_a_volume_that_moved_its_brick_frees_the_device(store: Store) -> None:
    spare = Device(DeviceId("5" * 32), HOSTS[2].id, "/spare", Backend.FILE, 1 << 40)
    await put(store, *TOPOLOGY, spare, volume("a"))
    stored = store.inventory.volumes[volume("a").id]
    moved = replace(stored, bricks=(*stored.bricks[:2], replace(stored.bricks[2], device_id=spare.id)))
    await put(store, moved)
    await store.commit([Remove(store.inventory.devices[DEVICES[2].id])])
    with pytest.raises(InUse):
        await store.commit([Remove(store.inventory.devices[spare.id])])


# --- concurrency ------------------------------------------------------------------------------


async def test_of_two_commits_on_one_version_one_wins(store: Store) -> None:
    await put(store, CLUSTER)
    stored = store.inventory.clusters[CLUSTER.id]
    outcomes = await asyncio.gather(*(put(store, stored) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, Inventory) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StaleState) for outcome in outcomes) == 7
    assert store.inventory.clusters[CLUSTER.id].version == 2


async def test_concurrent_commits_all_arrive(store: Store, make: Maker) -> None:
    await put(store, *TOPOLOGY)
    await asyncio.gather(*(put(store, volume(f"v{i}", gid=2000 + i)) for i in range(30)))
    assert len(store.inventory.volumes) == 30
    assert store.inventory == Inventory.of(store.inventory.records())
    assert await reopened(store, make) == store.inventory


async def test_a_cancelled_commit_is_done_or_not_and_the_store_knows_which(store: Store, make: Maker) -> None:
    await put(store, *TOPOLOGY)
    for turns in range(6):
        task = asyncio.create_task(put(store, volume(f"v{turns}", gid=2000 + turns)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await put(store, volume("last", gid=3000))
    known = store.inventory
    assert volume("last").id in known.volumes
    assert await reopened(store, make) == known


async def test_close_waits_for_the_commits_under_way(store: Store, make: Maker) -> None:
    await put(store, *TOPOLOGY)
    tasks = [asyncio.create_task(put(store, volume(f"v{i}", gid=2000 + i))) for i in range(5)]
    await asyncio.sleep(0)
    inventory = await reopened(store, make)
    done = await asyncio.gather(*tasks)
    assert len(inventory.volumes) == 5
    assert done[-1] == inventory


# --- life cycle -------------------------------------------------------------------------------


async def test_reopened_it_is_equal(store: Store, make: Maker) -> None:
    await put(store, *TOPOLOGY, volume("a"), volume("ü\n\x00'\"; DROP TABLE volumes", gid=2147483647))
    await put(store, snapshot("s", gid=2003))
    await put(store, creation(volume("b", gid=2001)), RestingGid(Gid(2002), until=1e9 + 0.25))
    await put(store, replace(store.inventory.volumes[volume("a").id], size=1 << 62))
    before = store.inventory
    assert await reopened(store, make) == before
    assert before.volumes[volume("a").id].version == 2


async def test_nothing_is_committed_before_open_or_after_close(make: Maker) -> None:
    store = make()
    with pytest.raises(StateUnusable, match="not open"):
        await put(store, CLUSTER)
    await store.open()
    await put(store, CLUSTER)
    await store.close()
    with pytest.raises(StateUnusable, match="not open"):
        await put(store, *HOSTS)
    await store.close()
    assert set((await reopened(store, make)).clusters) == {CLUSTER.id}

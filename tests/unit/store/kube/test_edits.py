"""What other people change and delete in custom resources, and how the store hears of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from csi.core.errors import StaleState
from csi.core.model import Availability, Gid, Record, RestingGid
from csi.ports import Put, Remove
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import FINALIZER, kind_of, path_of
from tests.api_double import ApiDouble, Server
from tests.unit.store.kube.records import CLUSTER, DEVICE, HOST
from tests.unit.store.kube.trouble import Late, others, reread, settled

# --- edits ------------------------------------------------------------------------------------


async def test_the_memory_follows_an_edit(store: KubeStore, server: Server) -> None:
    before = store.inventory.hosts[HOST.id]
    await others(server, replace(before, zone=7))
    await settled(lambda: store.inventory.hosts[HOST.id].zone == 7)
    with pytest.raises(StaleState):
        await store.commit([Put(replace(before, state=Availability.OFFLINE))])
    await store.commit([Put(replace(store.inventory.hosts[HOST.id], state=Availability.OFFLINE))])
    assert (await reread(server)).inventory.hosts[HOST.id].zone == 7


async def test_an_edit_that_was_not_heard_of_yet_makes_a_commit_stale(store: KubeStore, server: Server) -> None:
    before = store.inventory.hosts[HOST.id]
    edit = asyncio.create_task(others(server, replace(before, zone=7)))
    with pytest.raises(StaleState):
        await asyncio.gather(edit, store.commit([Put(replace(before, state=Availability.OFFLINE))]))
    assert store.inventory.hosts[HOST.id].zone == 7
    assert store.inventory.hosts[HOST.id].version > before.version
    assert (await reread(server)).inventory.hosts[HOST.id].zone == 7


async def test_labels_and_status_are_nobody_elses_business(store: KubeStore, server: Server) -> None:
    path = path_of(HOST)
    patch: list[resources.Document] = [{"op": "add", "path": "/status", "value": {"phase": "x"}}]
    await ApiDouble(server).request("PATCH", f"{path}/status", None, patch)
    host = store.inventory.hosts[HOST.id]
    await store.commit([Put(replace(host, zone=3))])
    present = server.present(path)
    assert present is not None
    assert present["status"] == {"phase": "x"}
    assert store.inventory.hosts[HOST.id].version == host.version + 1


async def test_a_manifest_that_is_not_recorded_yet_is_left_aside(store: KubeStore, server: Server) -> None:
    spec = {"manage": "n9", "storage": "10.0.0.9", "zone": 1}
    manifest = {"metadata": {"name": "by-hand"}, "spec": spec}
    await ApiDouble(server).request("POST", kind_of(HOST).path, None, manifest)
    await store.commit([Put(RestingGid(Gid(2001), 1.0))])
    assert set(store.inventory.hosts) == {HOST.id}
    assert (await reread(server)).inventory == store.inventory


# --- deletions --------------------------------------------------------------------------------


async def by_force(server: Server, record: Record) -> None:
    """As a person who does not want to wait for a finalizer."""
    other, path = ApiDouble(server), path_of(record)
    await other.request("DELETE", path, None, None)
    await other.request("PATCH", path, None, [{"op": "replace", "path": "/metadata/finalizers", "value": []}])


async def test_a_deletion_by_others_waits_for_the_store(store: KubeStore, server: Server) -> None:
    await ApiDouble(server).request("DELETE", path_of(DEVICE), None, None)
    await store.commit([Put(replace(store.inventory.devices[DEVICE.id], state=Availability.OFFLINE))])
    assert server.present(path_of(DEVICE)) is not None
    assert DEVICE.id in (await reread(server)).inventory.devices
    await store.commit([Remove(store.inventory.devices[DEVICE.id])])
    assert server.present(path_of(DEVICE)) is None
    assert not (await reread(server)).inventory.devices


async def test_what_others_remove_by_force_is_written_again_if_it_is_referred_to(
    store: KubeStore, server: Server
) -> None:
    before = store.inventory
    await by_force(server, HOST)
    await settled(lambda: server.present(path_of(HOST)) is not None)
    await store.commit([Put(replace(store.inventory.hosts[HOST.id], zone=3))])
    assert (await reread(server)).inventory == store.inventory
    assert store.inventory.devices == before.devices


async def test_what_others_remove_by_force_is_gone_if_nothing_refers_to_it(store: KubeStore, server: Server) -> None:
    await by_force(server, DEVICE)
    await settled(lambda: not store.inventory.devices)
    await store.commit([Put(RestingGid(Gid(2001), 1.0))])
    assert (await reread(server)).inventory == store.inventory


async def test_a_finalizer_of_others_does_not_keep_a_record(store: KubeStore, server: Server) -> None:
    patch: list[resources.Document] = [
        {"op": "replace", "path": "/metadata/finalizers", "value": [FINALIZER, "example.org/mine"]}
    ]
    await ApiDouble(server).request("PATCH", path_of(DEVICE), None, patch)
    await store.commit([Remove(store.inventory.devices[DEVICE.id])])
    present = server.present(path_of(DEVICE))
    assert present is not None
    assert present["metadata"]["finalizers"] == ["example.org/mine"]
    assert (await reread(server)).inventory == store.inventory
    await asyncio.sleep(0.05)
    assert not store.inventory.devices


# --- the watch --------------------------------------------------------------------------------


async def test_the_news_of_a_removal_says_nothing_of_the_next_one(server: Server) -> None:
    """It waits while the record is made anew and removed again: what was told of it in between is no news either."""
    api = Late(server)
    store = KubeStore(api, patience=1.0)
    heard: list[Record] = []
    await store.open()
    try:
        await store.commit([Put(CLUSTER), Put(HOST), Put(DEVICE)])
        made = store.inventory.devices[DEVICE.id]
        await store.commit([Remove(made)])
        async with store._turn:
            commits = [asyncio.create_task(store.commit([change])) for change in (Put(DEVICE), Remove(made))]
            await asyncio.sleep(0.01)
            api.flowing.set()
            await asyncio.sleep(0.05)
            store.listen(lambda puts, removes: heard.extend((*puts, *removes)))
        await asyncio.gather(*commits)
        await asyncio.sleep(0.1)
        assert heard == [made, made]
    finally:
        await store.close()


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_watch_goes_on_after_a_gap(store: KubeStore, server: Server, *, compacted: bool) -> None:
    await store.commit([Put(RestingGid(Gid(2001), 1.0)), Put(RestingGid(Gid(2002), 1.0))])
    resting = store.inventory.resting
    server.hang_up()
    await others(server, replace(store.inventory.hosts[HOST.id], zone=7))
    await ApiDouble(server).request("DELETE", path_of(RestingGid(Gid(2001), 1.0)), None, None)
    if compacted:
        server.compact()
    await settled(lambda: store.inventory.hosts[HOST.id].zone == 7 and len(store.inventory.resting) < len(resting))
    await store.commit([Put(replace(store.inventory.hosts[HOST.id], zone=8))])
    assert (await reread(server)).inventory == store.inventory

"""What people wrote under names of their own becomes the records, and keeps its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import copy
from dataclasses import replace

import msgspec
import pytest

from csi.core import naming
from csi.core.errors import StaleState
from csi.core.model import Availability, Gid, Host, RestingGid
from csi.ports import Put, Remove
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import FINALIZER, KINDS, kind_of, path_of
from csi.store.kube.names import Request
from tests.api_double import ApiDouble, Server
from tests.unit.store.kube.records import CLUSTER, DEVICE, HOST
from tests.unit.store.kube.trouble import Once, Troubled, others, reread, settled

SPEC = {"manage": HOST.manage, "storage": HOST.storage, "zone": 1, "cluster": "main", "tags": {"rack_row": "1"}}


async def ask(server: Server, kind: str, name: str, spec: resources.Document) -> None:
    path = next(one.path for one in KINDS if one.name == kind)
    answer = await ApiDouble(server).request("POST", path, None, {"metadata": {"name": name}, "spec": dict(spec)})
    assert answer.good


def request_of(server: Server, name: str) -> Request:
    present = server.present(f"{kind_of(HOST).path}/{name}")
    assert present is not None
    return Request.of(msgspec.json.decode(msgspec.json.encode(present), type=resources.Resource))


async def take_up(store: KubeStore, server: Server, name: str = "storage-1") -> None:
    with store.taking_up(Host, HOST.id, request_of(server, name)):
        await store.commit([Put(HOST)])


@pytest.fixture
async def named(server: Server, api: Troubled) -> AsyncIterator[KubeStore]:
    """A cluster, and a host whose resource a person named."""
    store = KubeStore(api, patience=1.0)
    await store.open()
    await store.commit([Put(CLUSTER)])
    await ask(server, "GlusterHost", "storage-1", SPEC)
    await take_up(store, server)
    yield store
    await store.close()


async def test_a_request_becomes_the_record_and_keeps_its_name_and_what_was_said(
    named: KubeStore, server: Server
) -> None:
    present = server.present(f"{kind_of(HOST).path}/storage-1")
    assert present is not None
    assert present["spec"] == {**SPEC, **resources.spec(replace(HOST, version=1))}
    assert present["metadata"]["finalizers"] == [FINALIZER]
    assert server.present(path_of(HOST)) is None
    assert named.name_of(Host, HOST.id) == "storage-1"
    assert named.record_in(Host, "storage-1") == named.inventory.hosts[HOST.id]
    assert (await reread(server)).inventory == named.inventory


@pytest.mark.parametrize("trouble", ["lost there", "lost back"])
async def test_a_request_is_taken_up_once_whatever_answer_is_lost(server: Server, api: Troubled, trouble: str) -> None:
    store = KubeStore(api, patience=1.0)
    await store.open()
    await store.commit([Put(CLUSTER)])
    await ask(server, "GlusterHost", "storage-1", SPEC)
    api.trouble = Once(0, trouble)
    await take_up(store, server)
    assert store.inventory.hosts[HOST.id].version == 1
    assert (await reread(server)).inventory == store.inventory
    await store.close()


async def test_a_condition_written_meanwhile_does_not_keep_a_request_from_being_taken_up(
    store: KubeStore, server: Server
) -> None:
    other = Host(naming.host_id("n2"), CLUSTER.id, "n2", "10.0.0.2", zone=1)
    await ask(server, "GlusterHost", "second", {"manage": "n2", "storage": "10.0.0.2", "zone": 1})
    request = request_of(server, "second")
    status: list[resources.Document] = [{"op": "add", "path": "/status", "value": {"phase": "Pending"}}]
    await ApiDouble(server).request("PATCH", f"{kind_of(HOST).path}/second/status", None, status)
    with store.taking_up(Host, other.id, request):
        await store.commit([Put(other)])
    assert store.name_of(Host, other.id) == "second"


async def test_a_request_that_was_changed_meanwhile_is_not_taken_up(store: KubeStore, server: Server) -> None:
    other = Host(naming.host_id("n2"), CLUSTER.id, "n2", "10.0.0.2", zone=1)
    await ask(server, "GlusterHost", "second", {"manage": "n2", "storage": "10.0.0.2", "zone": 1})
    request = request_of(server, "second")
    change: list[resources.Document] = [{"op": "replace", "path": "/spec/manage", "value": "n3"}]
    await ApiDouble(server).request("PATCH", f"{kind_of(HOST).path}/second", None, change)
    with store.taking_up(Host, other.id, request), pytest.raises(StaleState):
        await store.commit([Put(other)])
    assert set(store.inventory.hosts) == {HOST.id}
    await ApiDouble(server).request("DELETE", f"{kind_of(HOST).path}/second", None, None)
    with store.taking_up(Host, other.id, request), pytest.raises(StaleState):
        await store.commit([Put(other)])
    await store.commit([Put(RestingGid(Gid(2001), 1.0))])
    assert (await reread(server)).inventory == store.inventory


async def test_a_named_record_is_edited_changed_and_removed_under_its_name(named: KubeStore, server: Server) -> None:
    path = f"{kind_of(HOST).path}/storage-1"
    edit: list[resources.Document] = [{"op": "replace", "path": "/spec/zone", "value": 7}]
    await ApiDouble(server).request("PATCH", path, None, edit)
    await settled(lambda: named.inventory.hosts[HOST.id].zone == 7)
    await named.commit([Put(replace(named.inventory.hosts[HOST.id], state=Availability.OFFLINE))])
    assert (await reread(server)).inventory.hosts[HOST.id].zone == 7
    await named.commit([Remove(named.inventory.hosts[HOST.id])])
    assert server.present(path) is None
    await asyncio.sleep(0.05)
    assert not named.inventory.hosts
    await named.commit([Put(HOST)])
    assert server.present(path_of(HOST)) is not None
    assert (await reread(server)).inventory == named.inventory


@pytest.mark.parametrize("trouble", [Once(n, how) for n in (0, 1) for how in ("lost there", "lost back")], ids=str)
async def test_a_removal_is_carried_out_once(named: KubeStore, api: Troubled, server: Server, trouble: Once) -> None:
    api.trouble = copy(trouble)
    await named.commit([Remove(named.inventory.hosts[HOST.id])])
    assert server.present(f"{kind_of(HOST).path}/storage-1") is None
    assert (await reread(server)).inventory == named.inventory
    await asyncio.sleep(0.05)
    assert not named.inventory.hosts


async def test_of_two_that_say_they_are_the_same_record_the_first_is_it(named: KubeStore, server: Server) -> None:
    copied = resources.resource(replace(HOST, version=1, zone=9), "copy")
    copied["metadata"].pop("finalizers")
    await ApiDouble(server).request("POST", kind_of(HOST).path, None, copied)
    await asyncio.sleep(0.05)
    assert named.inventory.hosts[HOST.id].zone == 1
    assert named.record_in(Host, "copy") is None
    server.history[f"{kind_of(HOST).path}/copy"][-1][1]["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"  # type: ignore[index]
    assert (await reread(server)).inventory == named.inventory
    await ApiDouble(server).request("DELETE", f"{kind_of(HOST).path}/copy", None, None)
    await asyncio.sleep(0.05)
    assert HOST.id in named.inventory.hosts


async def test_what_the_writer_of_the_status_says_makes_its_echo_old_news(named: KubeStore, server: Server) -> None:
    path = f"{kind_of(HOST).path}/storage-1"
    before = named._revisions[Host, HOST.id]
    status: list[resources.Document] = [{"op": "add", "path": "/status", "value": {"phase": "Ready"}}]
    answer = await ApiDouble(server).request("PATCH", f"{path}/status", None, status)
    after = int(msgspec.json.decode(answer.body)["metadata"]["resourceVersion"])
    named.revised(Host, "storage-1", before, after)
    assert named._revisions[Host, HOST.id] == after
    named.revised(Host, "storage-1", before, before)
    assert named._revisions[Host, HOST.id] == after


async def test_what_was_applied_again_before_is_made_the_record_again(server: Server) -> None:
    await others(server, replace(CLUSTER, version=1))
    await ask(server, "GlusterHost", "storage-1", SPEC)
    store = KubeStore(ApiDouble(server))
    await store.open()
    await take_up(store, server)
    await store.commit([Put(DEVICE)])
    store._api.away = True  # type: ignore[attr-defined]
    path = f"{kind_of(HOST).path}/storage-1"
    other = ApiDouble(server)
    await other.request("DELETE", path, None, None)
    await other.request("PATCH", path, None, [{"op": "replace", "path": "/metadata/finalizers", "value": []}])
    await ask(server, "GlusterHost", "storage-1", SPEC)
    store._api.away = False  # type: ignore[attr-defined]
    await settled(lambda: (server.present(path) or {"spec": {}})["spec"].get("version") == 1)
    await store.commit([Put(RestingGid(Gid(2001), 1.0))])
    assert (await reread(server)).inventory == store.inventory
    await store.close()

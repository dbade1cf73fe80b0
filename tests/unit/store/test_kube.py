"""The store in custom resources where the API server, its answers, or other people get in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from copy import copy
from dataclasses import replace

import msgspec
import pytest

from csi.core import naming
from csi.core.errors import StaleState, StateUnusable, Unavailable
from csi.core.model import (
    Availability,
    Backend,
    Cluster,
    ClusterId,
    Device,
    Direction,
    Gid,
    Host,
    Operation,
    OperationKind,
    Record,
    RestingGid,
    Step,
    Volume,
    VolumeSpec,
    VolumeState,
)
from csi.kubernetes.api import Answer, ApiUnreachable, Body
from csi.ports import Change, Put, Remove
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import FINALIZER, KINDS, kind_of, path_of
from csi.store.kube.names import Request
from tests.api_double import ApiDouble, Server

CLUSTER = Cluster(ClusterId("c" * 32))
HOST = Host(naming.host_id("n1"), CLUSTER.id, "n1", "10.0.0.1", zone=1, tags={"rack_row": "1"})
DEVICE = Device(naming.device_id(HOST.id, "/d"), HOST.id, "/d", Backend.FILE, 1 << 40)


def volume(name: str = "a", state: VolumeState = VolumeState.READY) -> Volume:
    volume_id = naming.volume_id(name)
    return Volume(volume_id, name, f"vol_{volume_id}", CLUSTER.id, 1 << 30, VolumeSpec(), (), Gid(2000), state)


def operation(kind: OperationKind, direction: Direction = Direction.FORWARD) -> Operation:
    of = volume()
    return Operation(naming.operation_id(kind, of.id), kind, of, (Step.MAKE_BRICKS,), direction)


class Troubled(ApiDouble):
    """``trouble`` decides over each write: done, lost on the way there, or its answer lost on the way back."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.trouble: Callable[[str, str], str] = lambda method, path: ""
        self.writes: list[str] = []

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        trouble = ""
        if method != "GET":
            self.writes.append(f"{method} {path.split('/')[4]}")
            trouble = self.trouble(method, path)
        if trouble == "lost there":
            raise ApiUnreachable("lost")
        answer = await super().request(method, path, query, body)
        if trouble == "lost back":
            raise ApiUnreachable("lost")
        return answer


class Late(ApiDouble):
    """Tells its watches of nothing while ``flowing`` is not set."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.flowing = asyncio.Event()

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        async for line in super().watch(path, query):
            await self.flowing.wait()
            yield line


class Once:
    """Trouble for the n-th write from now, once."""

    def __init__(self, number: int, trouble: str) -> None:
        self._left = number
        self._trouble = trouble

    def __str__(self) -> str:
        return f"write {self._left}, {self._trouble}"

    def __call__(self, method: str, path: str) -> str:
        self._left -= 1
        return self._trouble if self._left == -1 else ""


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def api(server: Server) -> Troubled:
    return Troubled(server)


@pytest.fixture
async def store(api: Troubled) -> AsyncIterator[KubeStore]:
    store = KubeStore(api, patience=1.0)
    await store.open()
    await store.commit([Put(CLUSTER), Put(HOST), Put(DEVICE)])
    api.writes.clear()
    yield store
    await store.close()


async def others(server: Server, record: Record) -> None:
    """What somebody else writes."""
    path = path_of(record)
    if server.present(path) is None:
        await ApiDouble(server).request("POST", kind_of(record).path, None, resources.resource(record))
    else:
        patch: list[resources.Document] = [{"op": "replace", "path": "/spec", "value": resources.spec(record)}]
        await ApiDouble(server).request("PATCH", path, None, patch)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def reread(server: Server) -> KubeStore:
    again = KubeStore(ApiDouble(server))
    await again.open()
    await again.close()
    return again


# --- lost answers -----------------------------------------------------------------------------

COMMITS: dict[str, Callable[[KubeStore], list[Change]]] = {
    "create": lambda s: [Put(volume("b")), Put(RestingGid(Gid(2001), 1.0))],
    "replace": lambda s: [
        Put(replace(s.inventory.hosts[HOST.id], tags={})),
        Put(replace(s.inventory.devices[DEVICE.id], state=Availability.OFFLINE)),
    ],
    "remove": lambda s: [Remove(s.inventory.devices[DEVICE.id]), Remove(s.inventory.hosts[HOST.id])],
}


@pytest.mark.parametrize("trouble", [Once(n, how) for n in (0, 1) for how in ("lost there", "lost back")], ids=str)
@pytest.mark.parametrize("commit", COMMITS)
async def test_a_write_without_an_answer_is_carried_out_once(
    store: KubeStore, api: Troubled, server: Server, commit: str, trouble: Once
) -> None:
    api.trouble = copy(trouble)
    inventory = await store.commit(COMMITS[commit](store))
    # A removal of what carries a finalizer is two requests, and both are sent again if the first answer was lost.
    assert len(api.writes) in ((5, 6, 7) if commit == "remove" else (3,))
    assert (await reread(server)).inventory == inventory == store.inventory


async def test_while_the_server_is_away_nothing_else_is_written_and_then_the_change_is(
    server: Server, api: Troubled
) -> None:
    store = KubeStore(api, patience=0.1)
    await store.open()
    api.away = True
    with pytest.raises(StateUnusable, match=r"not written yet.*does not|away.*see to it"):
        await store.commit([Put(CLUSTER)])
    with pytest.raises(StateUnusable, match="nothing of this one was written"):
        await store.commit([Put(RestingGid(Gid(2001), 1.0))])
    api.away = False
    await settled(lambda: CLUSTER.id in store.inventory.clusters)
    await store.commit([Put(HOST)])
    await store.close()
    assert not (await reread(server)).inventory.resting


async def test_an_open_without_a_server_says_what_to_do(api: Troubled) -> None:
    api.away = True
    with pytest.raises(StateUnusable, match="see to it that the API server is up"):
        await KubeStore(api).open()


async def test_nothing_is_written_without_permission(server: Server) -> None:
    def permit() -> None:
        raise Unavailable("another controller leads")

    store = KubeStore(ApiDouble(server), permit=permit)
    await store.open()
    with pytest.raises(Unavailable):
        await store.commit([Put(CLUSTER)])
    await store.close()
    assert server.present(path_of(CLUSTER)) is None


# --- other people -----------------------------------------------------------------------------


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


# --- what people named ------------------------------------------------------------------------

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


# --- commits that were cut short --------------------------------------------------------------

FORWARD, BACK = operation(OperationKind.CREATE), operation(OperationKind.CREATE, Direction.BACK)
DELETION = operation(OperationKind.DELETE)
READY, DELETING = volume(), volume(state=VolumeState.DELETING)


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ([FORWARD], {FORWARD}),
        ([FORWARD, READY], {READY}),
        ([BACK], {BACK}),
        ([BACK, READY], {BACK}),
        ([DELETING], {READY}),
        ([DELETING, DELETION], {DELETING, DELETION}),
        ([READY, DELETION], {READY}),
        ([DELETION], set()),
    ],
)
async def test_what_a_crash_left_is_repaired_at_the_start(
    server: Server, found: list[Record], left: set[Record]
) -> None:
    for record in (CLUSTER, *found):
        await others(server, replace(record, version=1))
    inventory = (await reread(server)).inventory
    kept = [*inventory.volumes.values(), *inventory.operations.values()]
    assert {(r.id, getattr(r, "state", None)) for r in kept} == {(r.id, getattr(r, "state", None)) for r in left}
    assert (await reread(server)).inventory == inventory


async def test_a_creation_that_another_controller_wrote_late_is_turned_back(store: KubeStore, server: Server) -> None:
    await others(server, replace(FORWARD, version=1))
    await settled(lambda: store.inventory.operations.get(FORWARD.id, FORWARD).direction is Direction.BACK)


async def test_a_volume_that_another_controller_finished_late_is_not_kept(store: KubeStore, server: Server) -> None:
    await store.commit([Put(BACK)])
    await others(server, replace(READY, version=1))
    await settled(lambda: server.present(path_of(READY)) is None)
    await settled(lambda: READY.id not in store.inventory.volumes)
    assert BACK.id in store.inventory.operations


# --- the documents ----------------------------------------------------------------------------


def test_a_spec_is_spelt_as_the_api_spells() -> None:
    spec = resources.spec(replace(HOST, version=3))
    assert spec["clusterId"] == CLUSTER.id
    assert spec["tags"] == {"rack_row": "1"}
    assert (spec["schema"], spec["version"]) == (1, 3)
    assert "deviceTag" not in resources.spec(volume())["spec"]


async def test_a_newer_schema_is_not_read(server: Server) -> None:
    newer = resources.resource(replace(CLUSTER, version=1))
    newer["spec"]["schema"] = 2
    await ApiDouble(server).request("POST", kind_of(CLUSTER).path, None, newer)
    with pytest.raises(StateUnusable, match="schema is 2"):
        await reread(server)

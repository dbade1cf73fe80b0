"""The status behind the records: written seldom, never lost, never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from csi.core import naming
from csi.core.errors import Unavailable
from csi.core.model import (
    Backend,
    Brick,
    BrickId,
    Cluster,
    ClusterId,
    Device,
    Direction,
    Gid,
    Host,
    Operation,
    OperationKind,
    Step,
    Volume,
    VolumeSpec,
    VolumeState,
)
from csi.core.pools import PoolFullness, PoolLimit
from csi.hosts.contacts import Contact, Contacts
from csi.kubernetes.api import Answer, Body
from csi.kubernetes.events import Events
from csi.ports import Put, Remove
from csi.service.fullness import Health
from csi.status.conditions import Condition
from csi.status.writer import Pace, Remark, StatusWriter
from csi.store.kube import KubeStore
from csi.store.kube.kinds import kind_of, path_of
from tests.api_double import ApiDouble, Document, Server
from tests.keeping import HurriedClock, condition, until

CLUSTER = Cluster(ClusterId("c" * 32))
HOST = Host(naming.host_id("n1"), CLUSTER.id, "n1", "10.0.0.1", zone=1)
DEVICE = Device(naming.device_id(HOST.id, "/d"), HOST.id, "/d", Backend.FILE, 1 << 40)


def volume(name: str = "a") -> Volume:
    volume_id = naming.volume_id(name)
    brick = Brick(naming.brick_id(volume_id, 0, 0), 0, 0, HOST.id, DEVICE.id, 1 << 30, 1 << 30, f"/b/{name}")
    return Volume(volume_id, name, f"vol_{volume_id}", CLUSTER.id, 1 << 30, VolumeSpec(), (brick,), Gid(2000))


def operation(kind: OperationKind, of: Volume, error: str = "") -> Operation:
    direction = Direction.BACK if kind is OperationKind.CREATE else Direction.FORWARD
    return Operation(naming.operation_id(kind, of.id), kind, of, (Step.MAKE_BRICKS,), direction, error)


class Counting(ApiDouble):
    """``statuses``: how often one was written."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.statuses: list[str] = []
        self.asked: Callable[[str], Awaitable[None]] | None = None

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        if self.asked is not None:
            await self.asked(path)
        if method == "PATCH" and path.endswith("/status"):
            self.statuses.append(path.split("/")[4])
        return await super().request(method, path, query, body)


@dataclass(slots=True)
class Bench:
    server: Server
    store: KubeStore
    api: Counting
    contacts: Contacts = field(default_factory=Contacts)
    refused: bool = False
    writing: list[asyncio.Task[None]] = field(default_factory=list)
    writer: StatusWriter | None = None

    def begin(self) -> StatusWriter:
        def permit() -> None:
            if self.refused:
                raise Unavailable("another controller leads")

        self.writer = StatusWriter(
            self.api,
            self.store,
            Events(self.api, "test"),
            contacts=self.contacts,
            clock=HurriedClock(50.0),
            permit=permit,
            pace=Pace(gather=1.0, figures=2.0),
        )
        self.store.listen(self.writer.heed)
        self.contacts.listen(self.writer.heed_contact)
        self.writing.append(asyncio.create_task(self.writer.run()))
        return self.writer

    async def end(self) -> None:
        for task in self.writing:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*self.writing, return_exceptions=True)
        self.writing.clear()

    def status(self, record: Cluster | Host | Device | Volume | Operation) -> Document:
        found: Document = (self.server.present(path_of(record)) or {}).get("status", {})
        return found

    def events(self, name: str) -> list[str]:
        found = self.server.at("/api/v1/namespaces/default/events", self.server.revision)
        return [event["reason"] for event in found if event["involvedObject"]["name"] == name]


async def settled(bench: Bench, record: Cluster | Host | Device | Volume | Operation, phase: str) -> Document:
    async def look() -> bool:
        return bool(bench.status(record).get("phase") == phase)

    await until(look, 30)
    return bench.status(record)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    server = Server()
    store = KubeStore(ApiDouble(server))
    await store.open()
    await store.commit([Put(CLUSTER), Put(HOST), Put(DEVICE)])
    bench = Bench(server, store, Counting(server))
    yield bench
    await bench.end()
    await store.close()


@pytest.mark.parametrize("turns", range(1, 4))
async def test_it_ends_when_it_is_told_to_though_a_write_is_refused_in_the_same_moment(
    bench: Bench, turns: int
) -> None:
    """As when the lease is lost: from then on nothing may be written, and the process ends."""
    bench.begin()
    await settled(bench, DEVICE, "Ready")
    bench.refused = True
    await bench.store.commit([Put(volume("a")), Put(volume("b"))])
    (writing,) = bench.writing
    asked = asyncio.Event()

    async def slow_of_one(path: str) -> None:
        asked.set()
        for _ in range(100 if path.endswith(volume("b").id) else 0):
            await asyncio.sleep(0)

    bench.api.asked = slow_of_one
    await asked.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing}, timeout=0.5)
    assert writing.cancelled()
    bench.writing.clear()


def health(*percents: float, crossed: bool = False) -> Health:
    pools = tuple(
        PoolFullness(DEVICE.id, f"vg/tp{n}", (BrickId("b"),), (), ("pvc-1",), percent, 3.0, 8, 4, 9, 64)
        for n, percent in enumerate(percents)
    )
    return Health(DEVICE, pools, pools if crossed else (), PoolLimit())


async def test_thin_pools_that_are_full_are_a_condition_of_their_device_and_an_event(bench: Bench) -> None:
    writer = bench.begin()
    writer.heed_pools(health())
    await settled(bench, DEVICE, "Ready")

    def told() -> Document:
        return condition({"status": bench.status(DEVICE)}, "ThinPoolsHealthy")

    await until(lambda: _is(told().get("status") == "True"), 30)
    writer.heed_pools(health(91.2, crossed=True))
    await until(lambda: _is(told().get("status") == "False"), 30)
    assert told()["reason"] == "Refusing"
    for word in ("vg/tp0", "'pvc-1'", "brick b", "91 %", "80 %"):
        assert word in told()["message"]
    await until(lambda: _is(bench.events(DEVICE.id) == ["ThinPoolNearlyFull"]), 30)
    assert bench.status(DEVICE)["phase"] == "Ready"
    # The same to the percent is no news.
    written = len(bench.api.statuses)
    writer.heed_pools(health(91.4))
    await asyncio.sleep(0.1)
    assert len(bench.api.statuses) == written
    writer.heed_pools(health())
    await until(lambda: _is(told().get("status") == "True"), 30)
    assert bench.events(DEVICE.id) == ["ThinPoolNearlyFull"]


async def _is(value: bool) -> bool:
    return value


async def test_what_was_there_before_is_told_of_once(bench: Bench) -> None:
    await bench.store.commit([Put(volume())])
    bench.begin()
    await settled(bench, volume(), "Ready")
    await settled(bench, DEVICE, "Ready")
    await bench.end()
    before = bench.server.revision
    bench.api.statuses.clear()
    bench.begin()
    await asyncio.sleep(0.2)
    assert bench.api.statuses == []
    assert bench.server.revision == before


async def test_what_is_older_comes_last_and_all_of_it_is_told(bench: Bench) -> None:
    many = [replace(volume(f"v{number}"), gid=Gid(3000 + number)) for number in range(250)]
    await bench.store.commit([Put(one) for one in many])
    bench.begin()
    await until(lambda: _true(len(bench.api.statuses) > 0), 30)
    await bench.store.commit([Put(volume())])
    await settled(bench, volume(), "Ready")
    assert not all(bench.status(one) for one in many)
    await until(lambda: _true(all(bench.status(one) for one in many)), 10)


async def _true(found: bool) -> bool:
    return found


async def test_many_changes_are_written_once_and_figures_follow(bench: Bench) -> None:
    bench.begin()
    await settled(bench, DEVICE, "Ready")
    bench.api.statuses.clear()
    for number in range(30):
        await bench.store.commit([Put(replace(volume(f"v{number}"), gid=Gid(3000 + number)))])

    async def figures() -> bool:
        return bool(bench.status(DEVICE)["usedBytes"] == 30 << 30)

    await until(figures, 30)
    assert bench.api.statuses.count("glusterdevices") <= 5
    assert bench.status(DEVICE)["freeBytes"] == (1 << 40) - (30 << 30)


async def test_a_volume_that_came_and_went_costs_nothing(bench: Bench) -> None:
    bench.begin()
    await settled(bench, DEVICE, "Ready")
    bench.api.statuses.clear()
    await bench.store.commit([Put(volume())])
    await bench.store.commit([Remove(bench.store.inventory.volumes[volume().id])])
    await asyncio.sleep(0.2)
    assert "glustervolumes" not in bench.api.statuses


async def test_a_deletion_tells_what_it_waits_for_and_when_it_was_called_off(bench: Bench) -> None:
    bench.begin()
    await bench.store.commit([Put(volume())])
    await settled(bench, volume(), "Ready")
    deletion = operation(OperationKind.DELETE, volume())
    hidden = replace(bench.store.inventory.volumes[volume().id], state=VolumeState.DELETING)
    await bench.store.commit([Put(deletion), Put(hidden)])
    await settled(bench, volume(), "Deleting")
    noted = replace(bench.store.inventory.operations[deletion.id], error="host n1 cannot be reached", attempts=1)
    await bench.store.commit([Put(noted)])

    async def told() -> bool:
        found = bench.server.present(path_of(volume()))
        return "n1 cannot be reached" in condition(found, "Deleting").get("message", "")

    await until(told, 30)
    assert bench.events(volume().id) == ["DeletionWaits"]
    assert bench.status(deletion)["message"] == "host n1 cannot be reached"
    ready = replace(bench.store.inventory.volumes[volume().id], state=VolumeState.READY)
    await bench.store.commit([Put(ready), Remove(bench.store.inventory.operations[deletion.id])])
    status = await settled(bench, volume(), "Ready")
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [("Ready", "True")]


async def test_an_operation_that_was_undone_at_once_has_its_event_nevertheless(bench: Bench) -> None:
    bench.begin()
    creation = operation(OperationKind.CREATE, volume(), "gluster said no")
    await bench.store.commit([Put(creation)])
    await bench.store.commit([Remove(bench.store.inventory.operations[creation.id])])

    async def told() -> bool:
        return bench.events(creation.id) == ["TurnedBack"]

    await until(told, 30)


async def test_a_host_that_goes_and_comes_back_is_told_of(bench: Bench) -> None:
    bench.begin()
    for contact in (Contact(True), Contact(False, "timed out"), Contact(False, "timed out")):
        bench.contacts.note(HOST, contact)
    status = await settled(bench, HOST, "Unreachable")
    assert "timed out" in status["message"]
    bench.contacts.note(HOST, Contact(True))
    await settled(bench, HOST, "Ready")
    assert sorted(bench.events(HOST.id)) == ["HostReachable", "HostUnreachable"]  # listed by name, a digest


async def test_a_status_that_was_not_written_is_written_later(bench: Bench) -> None:
    bench.begin()
    await settled(bench, DEVICE, "Ready")
    bench.api.away = True
    await bench.store.commit([Put(volume())])
    await asyncio.sleep(0.1)
    bench.api.away = False
    await settled(bench, volume(), "Ready")


async def test_nothing_is_written_without_permission(bench: Bench) -> None:
    bench.refused = True
    bench.begin()
    await bench.store.commit([Put(volume())])
    await asyncio.sleep(0.1)
    assert bench.api.statuses == []


async def test_a_remark_is_told_with_the_record_and_without_one(bench: Bench) -> None:
    writer = bench.begin()
    held = Condition("Removable", False, "InUse", "it still holds a brick")
    writer.remark(Device, DEVICE.id, Remark("Removing", held))
    status = await settled(bench, DEVICE, "Removing")
    assert {c["type"]: c["status"] for c in status["conditions"]} == {"Accepted": "True", "Removable": "False"}
    request = {"metadata": {"name": "wish"}, "spec": {"manage": "n9", "storage": "10.0.0.9", "zone": 1}}
    await bench.api.request("POST", kind_of(HOST).path, None, request)
    writer.remark(Host, "wish", Remark("Refused", Condition("Accepted", False, "Invalid", "no")))

    async def told() -> bool:
        found = bench.server.present(f"{kind_of(HOST).path}/wish")
        return condition(found, "Accepted").get("reason") == "Invalid"

    await until(told, 30)


async def test_the_stores_next_write_needs_no_second_look_after_a_status(bench: Bench) -> None:
    bench.begin()
    await settled(bench, HOST, "Ready")
    asked: list[str] = []
    inner = bench.store._api.request

    async def counted(method: str, path: str, *rest: object) -> Answer:
        asked.append(method)
        return await inner(method, path, *rest)  # type: ignore[arg-type]

    bench.store._api.request = counted  # type: ignore[method-assign,assignment]
    await bench.store.commit([Put(replace(bench.store.inventory.hosts[HOST.id], zone=3))])
    assert asked == ["PATCH"]

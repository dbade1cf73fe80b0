"""Clusters, hosts and devices that people write and delete: with kubectl on a real API server, and over its double."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from csi.core import naming, topologyfile
from csi.core.model import Availability, Device, Host, OperationKind, Volume
from csi.hosts.simulated.filesystem import FileSystem
from csi.hosts.simulated.world import Fault, Kind, World
from csi.kubernetes.api import Api
from csi.kubernetes.client import KubernetesApi
from csi.store.kube.kinds import FINALIZER
from tests.api_double import ApiDouble, Server
from tests.custom_resources import wipe
from tests.keeping import (
    DoubleHand,
    Hand,
    KubectlHand,
    Life,
    cluster,
    condition,
    device,
    host,
    hosts,
    manifest,
    pool,
    until,
)

pytestmark = pytest.mark.timeout(180)

Document = dict[str, Any]
H1 = naming.host_id("h1")
D1 = naming.device_id(H1, "/srv/d0")


@dataclass(slots=True)
class Bench:
    hand: Hand
    world: World
    connect: Callable[[], Api]
    speed: float
    life: Life = field(init=False)

    async def begin(self) -> None:
        self.life = await Life(self.world, self.connect, self.speed).begin()

    async def accepted(self, kind: str, name: str) -> Document:
        async def look() -> Document | None:
            found = await self.hand.look(kind, name)
            return found if condition(found, "Accepted").get("status") == "True" else None

        return await until(look)  # type: ignore[no-any-return]

    async def refused(self, kind: str, name: str, reason: str) -> str:
        """The message."""

        async def look() -> str | None:
            found = condition(await self.hand.look(kind, name), "Accepted")
            return found["message"] if found.get("reason") == reason and found["status"] == "False" else None

        return await until(look)  # type: ignore[no-any-return]

    async def gone(self, kind: str, name: str) -> None:
        async def look() -> bool:
            return await self.hand.look(kind, name) is None

        await until(look)

    async def event(self, name: str, reason: str) -> Document:
        async def look() -> Document | None:
            found = await self.hand.events(name)
            return next((event for event in found if event["reason"] == reason), None)

        return await until(look)  # type: ignore[no-any-return]

    async def load(self, *numbers: int) -> None:
        assert await self.hand.apply(*pool(numbers)) == ""
        for number in numbers:
            await self.accepted("GlusterDevice", f"disk-{number}")


@pytest.fixture(params=["double", pytest.param("kubectl", marks=pytest.mark.cluster)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "double":
        server = Server()
        hand: Hand = DoubleHand(server)
        bench = Bench(hand, hosts(), lambda: ApiDouble(server), 50.0)
    else:
        kubeconfig = request.getfixturevalue("custom_resources")
        await wipe(kubeconfig)
        hand = KubectlHand(kubeconfig)
        bench = Bench(hand, hosts(), lambda: KubernetesApi(kubeconfig), 10.0)
    await bench.begin()
    yield bench
    await bench.life.end()
    await bench.hand.close()
    if request.param == "kubectl":
        await wipe(kubeconfig)


async def test_what_is_applied_becomes_records_and_carries_volumes(bench: Bench) -> None:
    await bench.load(1, 2, 3)
    inventory = bench.life.inventory
    assert set(inventory.hosts) == {naming.host_id(f"h{number}") for number in (1, 2, 3)}
    assert inventory.devices[D1].total > 0
    found = await bench.accepted("GlusterDevice", "disk-1")
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert (found["spec"]["host"], found["spec"]["hostId"], found["spec"]["id"]) == ("storage-1", H1, D1)
    volume = await bench.life.create()
    assert {brick.host_id for brick in volume.bricks} == set(inventory.hosts)

    async def told() -> bool:
        used = ((await bench.hand.look("GlusterDevice", "disk-1")) or {})["status"].get("usedBytes", 0)
        seen = await bench.hand.look("GlusterVolume", volume.id)
        reachable = condition(await bench.hand.look("GlusterHost", "storage-1"), "Reachable").get("status")
        counted = ((await bench.hand.look("GlusterCluster", "main")) or {})["status"].get("devices")
        return bool(
            used > 0 and condition(seen, "Ready").get("status") == "True" and reachable == "True" and counted == 3
        )

    await until(told)


async def test_a_device_that_holds_a_brick_waits_and_names_it(bench: Bench) -> None:
    await bench.load(1, 2, 3)
    volume = await bench.life.create()
    brick = next(brick for brick in volume.bricks if brick.device_id == D1)
    await bench.hand.delete("GlusterDevice", "disk-1")

    async def waiting() -> str | None:
        found = condition(await bench.hand.look("GlusterDevice", "disk-1"), "Removable")
        return found["message"] if found.get("status") == "False" and found["reason"] == "InUse" else None

    message = await until(waiting)
    assert brick.path in message
    assert volume.name in message
    event = await bench.event("disk-1", "InUse")
    assert volume.name in event["message"]
    assert event["involvedObject"]["kind"] == "GlusterDevice"
    assert bench.life.inventory.devices[D1].state is Availability.OFFLINE
    await bench.life.core.volumes.delete(volume.id)
    await bench.gone("GlusterDevice", "disk-1")
    assert D1 not in bench.life.inventory.devices
    # Nothing is left that would keep it from coming again.
    assert await bench.hand.apply(device(1)) == ""
    await bench.accepted("GlusterDevice", "disk-1")
    assert bench.life.inventory.devices[D1].state is Availability.ONLINE


async def test_what_holds_nothing_goes_at_once_and_hosts_wait_for_their_devices(bench: Bench) -> None:
    await bench.load(1, 2)
    for kind, name in (("GlusterCluster", "main"), ("GlusterHost", "storage-1"), ("GlusterHost", "storage-2")):
        await bench.hand.delete(kind, name)

    async def waiting() -> str | None:
        found = condition(await bench.hand.look("GlusterHost", "storage-1"), "Removable")
        message: str = found.get("message", "")
        return message

    assert "device /srv/d0" in await until(waiting)
    for number in (1, 2):
        await bench.hand.delete("GlusterDevice", f"disk-{number}")
    for kind, name in (("GlusterHost", "storage-1"), ("GlusterHost", "storage-2"), ("GlusterCluster", "main")):
        await bench.gone(kind, name)
    assert next(bench.life.inventory.records(), None) is None


async def test_a_disk_is_wiped_when_that_is_confirmed_and_given_back_when_it_is_deleted(bench: Bench) -> None:
    machine = bench.world.machines["h1"]
    disk = machine.add_disk("/dev/vdb", 20 << 30)
    disk.filesystem = FileSystem("xfs", 20 << 30)
    assert await bench.hand.apply(cluster(), host(1), device(1, path="/dev/vdb")) == ""
    assert "destroyData" in await bench.refused("GlusterDevice", "disk-1", "InvalidRequest")
    assert disk.filesystem is not None
    assert await bench.hand.apply(device(1, path="/dev/vdb", destroyData=True)) == ""
    await bench.accepted("GlusterDevice", "disk-1")
    assert len(machine.lvm.groups) == 1
    assert disk.filesystem is None
    fault = bench.world.inject(Fault("h1", "csi_lvm_release*", Kind.ERROR, times=1))
    await bench.hand.delete("GlusterDevice", "disk-1")
    await bench.gone("GlusterDevice", "disk-1")
    assert fault.struck == 1
    assert (await bench.event("disk-1", "NotGivenBack"))["type"] == "Warning"
    assert not machine.lvm.groups
    assert not machine.lvm.physical


async def test_a_disk_that_is_lost_is_let_go_of_when_it_is_said_to_have_failed(bench: Bench) -> None:
    bench.world.machines["h1"].add_disk("/dev/vdb", 20 << 30)
    assert await bench.hand.apply(cluster(), host(1), device(1, path="/dev/vdb")) == ""
    await bench.accepted("GlusterDevice", "disk-1")
    bench.world.inject(Fault("h1", "csi_lvm_release*", Kind.ERROR, times=1000))
    await bench.hand.delete("GlusterDevice", "disk-1")

    async def kept() -> bool:
        found = condition(await bench.hand.look("GlusterDevice", "disk-1"), "Removable")
        return found.get("reason") == "NotGivenBack" and "state: failed" in found["message"]

    await until(kept)
    assert await bench.hand.apply(device(1, path="/dev/vdb", state="failed")) == ""
    await bench.gone("GlusterDevice", "disk-1")
    assert len(bench.world.machines["h1"].lvm.groups) == 1


async def test_a_wrong_path_is_told_and_may_be_corrected(bench: Bench) -> None:
    wrong = manifest("GlusterDevice", "disk-1", host="storage-1", path="/srv/nothing")
    assert await bench.hand.apply(cluster(), host(1), wrong) == ""
    message = await bench.refused("GlusterDevice", "disk-1", "InvalidRequest")
    assert "/srv/nothing" in message
    assert (await bench.event("disk-1", "InvalidRequest"))["message"] == message
    assert not bench.life.inventory.devices
    assert await bench.hand.apply(device(1)) == ""
    found = await bench.accepted("GlusterDevice", "disk-1")
    assert found["status"]["phase"] == "Ready"
    assert found["status"]["message"] == ""


async def test_of_two_for_one_host_the_second_is_told_so_and_changes_nothing(bench: Bench) -> None:
    await bench.load(1)
    assert await bench.hand.apply(host(1, "again", zone=9)) == ""
    assert "'storage-1'" in await bench.refused("GlusterHost", "again", "AlreadyRecorded")
    assert bench.life.inventory.hosts[H1].zone == 1
    assert bench.life.store.name_of(Host, H1) == "storage-1"
    await bench.hand.delete("GlusterHost", "again")
    await bench.gone("GlusterHost", "again")
    assert H1 in bench.life.inventory.hosts


async def test_two_for_one_host_at_once_make_one_record(bench: Bench) -> None:
    assert await bench.hand.apply(cluster(), host(1, "one"), host(1, "two")) == ""

    async def settled() -> bool:
        seen = [condition(await bench.hand.look("GlusterHost", name), "Accepted") for name in ("one", "two")]
        return sorted(one.get("reason", "") for one in seen) == ["AlreadyRecorded", "Recorded"]

    await until(settled)
    assert set(bench.life.inventory.hosts) == {H1}


async def test_what_may_be_changed_is_changed_by_applying_it_again(bench: Bench) -> None:
    await bench.load(1)
    assert await bench.hand.apply(host(1, zone=7, tags={"rack": "r1"}), device(1, state="offline")) == ""

    async def followed() -> bool:
        at = bench.life.inventory
        offline = at.devices[D1].state is Availability.OFFLINE
        return at.hosts[H1].zone == 7 and dict(at.hosts[H1].tags) == {"rack": "r1"} and offline

    await until(followed)
    assert await bench.hand.apply(host(1, zone=8), device(1, state="online")) == ""
    again = await bench.accepted("GlusterHost", "storage-1")
    assert (again["spec"]["zone"], again["spec"]["id"]) == (8, H1)


async def test_a_record_that_lacks_the_finalizer_gets_it(bench: Bench) -> None:
    await bench.load(1)
    found = await bench.accepted("GlusterDevice", "disk-1")
    await bench.hand.release("GlusterDevice", "disk-1")

    async def held_again() -> bool:
        now = await bench.hand.look("GlusterDevice", "disk-1")
        return now is not None and now["metadata"].get("finalizers") == found["metadata"]["finalizers"] == [FINALIZER]

    await until(held_again)
    await bench.life.core.topology.close_off(bench.life.inventory.devices[D1])


async def test_what_is_removed_by_force_and_holds_bricks_is_there_again(bench: Bench) -> None:
    await bench.load(1, 2, 3)
    volume = await bench.life.create()
    await bench.hand.delete("GlusterDevice", "disk-1")
    await bench.hand.release("GlusterDevice", "disk-1")

    async def back() -> bool:
        now = await bench.hand.look("GlusterDevice", "disk-1")
        return now is not None and "deletionTimestamp" not in now["metadata"] and now["spec"]["id"] == D1

    await until(back)
    assert await bench.hand.apply(device(1)) == ""
    await bench.life.core.volumes.delete(volume.id)
    await bench.hand.delete("GlusterDevice", "disk-1")
    await bench.gone("GlusterDevice", "disk-1")


async def test_what_is_not_resolved_yet_waits(bench: Bench) -> None:
    assert await bench.hand.apply(device(1), host(1)) == ""
    assert "'storage-1'" in await bench.refused("GlusterDevice", "disk-1", "Unresolved")
    assert "'main'" in await bench.refused("GlusterHost", "storage-1", "Unresolved")
    assert await bench.hand.apply(cluster()) == ""
    await bench.accepted("GlusterDevice", "disk-1")


async def test_a_host_that_is_away_is_told_of_and_taken_up_when_it_is_back(bench: Bench) -> None:
    bench.life.world.machines["h1"].up = False
    assert await bench.hand.apply(*pool([1])) == ""
    assert "h1" in await bench.refused("GlusterHost", "storage-1", "HostUnreachable")
    await bench.event("storage-1", "HostUnreachable")
    bench.life.world.machines["h1"].boot()
    await bench.accepted("GlusterDevice", "disk-1")


async def test_a_host_that_hangs_keeps_no_other_one_waiting(bench: Bench) -> None:
    hanging = bench.life.world.inject(Fault("h1", "*", Kind.HANG, times=1000))
    assert await bench.hand.apply(cluster(), host(1)) == ""
    await until(lambda: _true(hanging.struck > 0))
    assert await bench.hand.apply(host(2), device(2)) == ""
    await bench.accepted("GlusterDevice", "disk-2")
    assert H1 not in bench.life.inventory.hosts


async def _true(found: bool) -> bool:
    return found


async def test_a_manifest_meets_the_host_of_a_topology_file(bench: Bench) -> None:
    names = {"manage": ["h1"], "storage": ["10.0.0.1"]}
    nodes = [{"node": {"hostnames": names, "zone": 1}, "devices": ["/srv/d0"]}]
    file = topologyfile.parse(json.dumps({"clusters": [{"nodes": nodes}]}))
    async for progress in bench.life.core.topology.load(file):
        assert not progress.failed, progress.line
    assert await bench.hand.apply(host(1, cluster=next(iter(bench.life.inventory.clusters)))) == ""
    assert H1 in await bench.refused("GlusterHost", "storage-1", "AlreadyRecorded")
    # Under its own name it is the record, and can be changed.
    assert await bench.hand.apply(host(1, H1, zone=5)) == ""

    async def followed() -> bool:
        return bench.life.inventory.hosts[H1].zone == 5

    await until(followed)
    async for progress in bench.life.core.topology.load(file):
        assert not progress.failed, progress.line
    assert bench.life.inventory.hosts[H1].zone == 1


async def test_a_deletion_that_waits_for_a_host_is_told_on_the_volume(bench: Bench) -> None:
    await bench.load(1, 2, 3)
    volume = await bench.life.create()
    bench.life.world.machines["h3"].up = False
    with pytest.raises(Exception, match="waits for its hosts"):
        await bench.life.core.volumes.delete(volume.id)

    async def told() -> bool:
        found = await bench.hand.look("GlusterVolume", volume.id)
        host_seen = condition(await bench.hand.look("GlusterHost", "storage-3"), "Reachable")
        deleting = condition(found, "Deleting")
        return (
            deleting.get("reason") == "Waiting" and "h3" in deleting["message"] and host_seen.get("status") == "False"
        )

    await until(told)
    await bench.event(volume.id, "DeletionWaits")
    await bench.event("storage-3", "HostUnreachable")
    bench.life.world.machines["h3"].boot()

    async def deleted() -> bool:
        await bench.life.core.recovery.look()
        return not bench.life.inventory.volumes

    await until(deleted)
    await bench.event("storage-3", "HostReachable")


async def test_a_creation_that_is_undone_is_told_of(bench: Bench) -> None:
    await bench.load(1, 2, 3)
    bench.life.world.inject(Fault("*", "*volume start*", Kind.ERROR, times=100))
    with pytest.raises(Exception, match="start"):
        await bench.life.create()
    operation = naming.operation_id(OperationKind.CREATE, naming.volume_id("pvc-x"))
    event = await bench.event(operation, "TurnedBack")
    assert "pvc-x" in event["message"]


async def test_a_status_costs_the_store_no_stale_commit(bench: Bench) -> None:
    await bench.load(1, 2, 3)
    volumes: list[Volume] = [await bench.life.create(f"pvc-{number}") for number in range(3)]

    async def all_told() -> bool:
        seen = [await bench.hand.look("GlusterVolume", volume.id) for volume in volumes]
        return all(condition(one, "Ready") for one in seen)

    await until(all_told)
    await asyncio.gather(*(bench.life.core.volumes.delete(volume.id) for volume in volumes))
    assert not bench.life.inventory.volumes
    assert isinstance(bench.life.store.record_in(Device, "disk-1"), Device)


async def test_a_controller_that_begins_anew_goes_on_where_the_last_one_ended(bench: Bench) -> None:
    await bench.load(1)
    bench.life.world.machines["h2"].up = False
    assert await bench.hand.apply(host(2), device(2)) == ""
    await bench.refused("GlusterHost", "storage-2", "HostUnreachable")
    await bench.life.end()
    await bench.hand.delete("GlusterDevice", "disk-1")
    bench.world.machines["h2"].boot()
    await bench.begin()
    await bench.accepted("GlusterDevice", "disk-2")
    await bench.gone("GlusterDevice", "disk-1")

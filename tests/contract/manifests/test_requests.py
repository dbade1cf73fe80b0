"""Clusters, hosts and devices that people write: they become records, or it is told why not."""

from __future__ import annotations

import json

import pytest

from csi.core import naming, topologyfile
from csi.core.model import Availability, Host
from csi.hosts.simulated.world import Fault, Kind
from csi.store.kube.kinds import FINALIZER
from tests.contract.manifests.bench import D1, H1, Bench
from tests.keeping import cluster, condition, device, host, manifest, pool, until

pytestmark = pytest.mark.timeout(180)


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

"""Clusters, hosts and devices that people delete: what holds bricks waits, and disks are given back."""

from __future__ import annotations

import pytest

from csi.core.model import Availability
from csi.hosts.simulated.filesystem import FileSystem
from csi.hosts.simulated.world import Fault, Kind
from csi.store.kube.kinds import FINALIZER
from tests.contract.manifests.bench import D1, Bench
from tests.keeping import cluster, condition, device, host, until

pytestmark = pytest.mark.timeout(180)


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

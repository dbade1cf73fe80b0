"""What people are told of volumes, in status and events."""

from __future__ import annotations

import asyncio

import pytest

from csi.core import naming
from csi.core.model import Device, OperationKind, Volume
from csi.hosts.simulated.world import Fault, Kind
from tests.contract.manifests.bench import Bench
from tests.keeping import condition, until

pytestmark = pytest.mark.timeout(180)


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

"""Devices that are removed: a disk is blank again, and only if it is ours and empty."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.core.errors import CommandFailed, HostUnreachable, InUse, Unavailable
from csi.core.model import Availability, Backend, Device
from csi.core.topologyfile import ClusterEntry, DeviceEntry, NodeEntry, TopologyFile
from csi.hosts.simulated.world import Fault, Kind
from csi.ports import Put
from tests.unit.service.conftest import GIB, Pool

DISK = "/dev/vdx"


async def disk(pool: Pool) -> Device:
    """A disk on the first host beside its directory, taken up."""
    machine = pool.world.machines["h1"]
    if DISK not in machine.blocks:
        machine.add_disk(DISK, 20 * GIB)
    node = NodeEntry("h1", "10.0.0.1", 1, (DeviceEntry(DISK),))
    failed = [p.line async for p in pool.core.topology.load(TopologyFile((ClusterEntry((node,)),))) if p.failed]
    assert not failed
    return recorded(pool)


def recorded(pool: Pool) -> Device:
    (found,) = [d for d in pool.core.outside.store.inventory.devices.values() if d.backend is Backend.LVM]
    return found


async def test_a_disk_is_given_back_and_can_be_had_again(pool: Pool) -> None:
    lvm = pool.world.machines["h1"].lvm
    for _ in range(2):
        await pool.core.topology.remove(await disk(pool))
        assert (lvm.groups, lvm.physical) == ({}, {})
        assert len(pool.core.outside.store.inventory.devices) == 3


async def test_one_that_holds_a_brick_or_a_volume_of_somebody_stays(pool: Pool) -> None:
    device = await disk(pool)
    group = pool.world.machines["h1"].lvm.groups[f"vg_{device.id}"]
    volume = await pool.create(volumetype="none", size=19 * GIB)
    (brick,) = volume.bricks
    if brick.device_id == device.id:
        with pytest.raises(InUse, match=f"device h1:{DISK} still carries bricks"):
            await pool.core.topology.remove(device)
    await pool.core.volumes.delete(volume.id)
    manager = pool.world.machines["h1"].lvm
    made = manager.make_volume(group, manager.make_pool(group, "theirs", 256, 2, 256 << 10), "data", 256)
    with pytest.raises(Unavailable, match="still in use"):
        await pool.core.topology.remove(recorded(pool))
    assert group.volumes == {"data": made}
    # Nothing new was placed on it meanwhile.
    assert recorded(pool).state is Availability.OFFLINE


async def test_what_carries_anothers_mark_is_left_alone(pool: Pool) -> None:
    device = await disk(pool)
    group = pool.world.machines["h1"].lvm.groups[f"vg_{device.id}"]
    group.tags = {"csi.device=" + device.id, "csi.instance=another"}
    with pytest.raises(Unavailable, match="carries the mark of instance 'another'"):
        await pool.core.topology.remove(device)
    assert recorded(pool).id == device.id


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.DROP_AFTER])
async def test_a_removal_that_was_interrupted_goes_on(pool: Pool, kind: Kind) -> None:
    """Also when the group has gone already: the host did it and its answer was lost, or we ended before the commit."""
    device = await disk(pool)
    pool.world.inject(Fault("h1", "csi_lvm_release*", kind))
    with pytest.raises((CommandFailed, HostUnreachable)):
        await pool.core.topology.remove(device)
    await pool.core.topology.remove(recorded(pool))
    assert len(pool.core.outside.store.inventory.devices) == 3
    assert not pool.world.machines["h1"].lvm.physical


async def test_a_disk_that_is_said_to_have_failed_is_not_asked_for(pool: Pool) -> None:
    device = await disk(pool)
    await pool.core.outside.store.commit([Put(replace(device, state=Availability.FAILED))])
    pool.world.inject(Fault("h1", "csi_lvm_release*", Kind.ERROR))
    await pool.core.topology.remove(recorded(pool))
    assert len(pool.core.outside.store.inventory.devices) == 3

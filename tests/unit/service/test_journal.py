"""What each write of the journal holds, reserves and frees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.core.errors import StaleState
from csi.core.model import (
    Backend,
    Brick,
    BrickId,
    Cluster,
    ClusterId,
    Device,
    DeviceId,
    Direction,
    Gid,
    Host,
    HostId,
    OperationKind,
    Step,
    Volume,
    VolumeId,
    VolumeSpec,
    VolumeState,
)
from csi.ports import Put
from csi.service.journal import Journal
from csi.store.memory import MemoryStore

CLUSTER = Cluster(ClusterId("c" * 32))
HOST = Host(HostId("1" * 32), CLUSTER.id, "host1", "10.0.0.1", 1)
DEVICE = Device(DeviceId("d" * 32), HOST.id, "/srv/d0", Backend.FILE, 1000)
BRICK = Brick(BrickId("b" * 32), 0, 0, HOST.id, DEVICE.id, 300, 300, "/bricks/b/brick")
VOLUME = Volume(VolumeId("a" * 32), "pvc", "vol_a", CLUSTER.id, 300, VolumeSpec(), (BRICK,), Gid(2000))


class SetClock:
    """A clock that stands where it was put."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
async def journal() -> Journal:
    store = MemoryStore()
    await store.open()
    await store.commit([Put(CLUSTER), Put(HOST), Put(DEVICE)])
    return Journal(store, SetClock(), gid_rest=60)


async def test_the_line_reserves_space_and_gid(journal: Journal) -> None:
    operation = await journal.begin_create(VOLUME)
    assert operation.steps == (Step.MAKE_BRICKS, Step.CREATE_VOLUME, Step.START_VOLUME)
    assert journal.inventory.free(DEVICE) == 700
    assert 2000 in journal.inventory.gids
    assert not journal.inventory.volumes


async def test_options_are_a_step_only_when_there_are_some(journal: Journal) -> None:
    spec = VolumeSpec(options=(("performance.io-cache", "off"),))
    operation = await journal.begin_create(replace(VOLUME, spec=spec))
    assert Step.SET_OPTIONS in operation.steps


async def test_the_line_can_be_crossed_once(journal: Journal) -> None:
    await journal.begin_create(VOLUME)
    with pytest.raises(StaleState):
        await journal.begin_create(VOLUME)


async def test_finishing_hands_space_and_gid_to_the_volume(journal: Journal) -> None:
    volume = await journal.finish_create(await journal.begin_create(VOLUME))
    assert volume.version == 1
    assert journal.inventory.free(DEVICE) == 700
    assert 2000 in journal.inventory.gids
    assert not journal.inventory.operations


async def test_an_undone_creation_frees_both_at_once(journal: Journal) -> None:
    operation = await journal.turn_back(await journal.begin_create(VOLUME), "no luck")
    assert (operation.direction, operation.error) == (Direction.BACK, "no luck")
    assert journal.inventory.free(DEVICE) == 700
    await journal.finish_undo(operation)
    assert journal.inventory.free(DEVICE) == 1000
    assert 2000 not in journal.inventory.gids


async def test_a_deletion_hides_first_and_frees_last(journal: Journal) -> None:
    volume = await journal.finish_create(await journal.begin_create(VOLUME))
    operation = await journal.begin_delete(volume)
    assert journal.inventory.volumes[volume.id].state is VolumeState.DELETING
    assert journal.inventory.free(DEVICE) == 700
    operation = await journal.note(operation, "host away")
    assert (operation.error, operation.attempts) == ("host away", 1)
    await journal.finish_delete(operation)
    assert not journal.inventory.volumes
    assert not journal.inventory.operations
    assert journal.inventory.free(DEVICE) == 1000
    assert 2000 in journal.inventory.gids, "the GID rests"


async def test_a_rested_gid_is_swept_by_a_later_creation(journal: Journal) -> None:
    volume = await journal.finish_create(await journal.begin_create(VOLUME))
    await journal.finish_delete(await journal.begin_delete(volume))
    other = replace(VOLUME, id=VolumeId("e" * 32), name="other", gid=Gid(2001))
    await journal.begin_create(other)
    assert 2000 in journal.inventory.gids
    await journal.clock.sleep(61)
    await journal.begin_create(replace(other, id=VolumeId("f" * 32), name="third", gid=Gid(2002)))
    assert 2000 not in journal.inventory.gids


async def test_a_revoked_deletion_shows_the_volume_again(journal: Journal) -> None:
    volume = await journal.finish_create(await journal.begin_create(VOLUME))
    await journal.revoke_delete(await journal.begin_delete(volume))
    assert journal.inventory.volumes[volume.id].state is VolumeState.READY
    assert journal.find(OperationKind.DELETE, volume.id) is None

"""Publishing: the tables of the specification, dead and silent clients, and that nothing but empty directories goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from csi.core.errors import Conflict, Incoherent, InUse, MountFailed, NotFound, NotStaged, Unavailable
from csi.mountports import MountSource, MountState
from csi.mounts.simulated import Health, SimulatedMounter
from csi.service.publish import Publish, Publisher, Stage

SOURCE = MountSource(("a", "b"), "vol_1")
STAGE = Stage("1", SOURCE, "/staging")
PUBLISH = Publish("1", SOURCE, "/staging", "/pods/1/mount")
OTHER = replace(PUBLISH, target="/pods/2/mount")


@pytest.fixture
def node() -> SimulatedMounter:
    return SimulatedMounter(["vol_1", "vol_2"])


@pytest.fixture
def publisher(node: SimulatedMounter) -> Publisher:
    return Publisher(node)


async def test_from_birth_to_death(node: SimulatedMounter, publisher: Publisher) -> None:
    await node.make_directory("/staging")
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    await publisher.publish(OTHER)
    assert node.mounted == {"/staging": 1, PUBLISH.target: 1, OTHER.target: 1}
    assert node.clients == 1
    await publisher.unpublish("1", PUBLISH.target)
    await publisher.unpublish("1", OTHER.target)
    await publisher.unstage("1", "/staging")
    assert (node.mounted, node.clients) == ({}, 0)
    # The driver made the targets; the staging path is its caller's.
    assert set(node.directories) == {"/", "/staging", "/pods", "/pods/1", "/pods/2"}


async def test_ten_times_is_once(node: SimulatedMounter, publisher: Publisher) -> None:
    for _ in range(10):
        await publisher.stage(STAGE)
        await publisher.publish(PUBLISH)
    client = node.client("/staging")
    assert node.mounted == {"/staging": 1, PUBLISH.target: 1}
    await asyncio.gather(*(publisher.stage(STAGE) for _ in range(5)), *(publisher.publish(PUBLISH) for _ in range(5)))
    assert node.mounted == {"/staging": 1, PUBLISH.target: 1}
    assert node.client("/staging") is client
    for _ in range(3):
        await publisher.unpublish("1", PUBLISH.target)
    for _ in range(3):
        await publisher.unstage("1", "/staging")
    assert node.mounted == {}


async def test_after_a_restart_the_kernel_tells(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    again = Publisher(node)
    await again.stage(STAGE)
    await again.publish(PUBLISH)
    assert node.mounted == {"/staging": 1, PUBLISH.target: 1}
    await again.unpublish("1", PUBLISH.target)
    await again.unstage("1", "/staging")
    assert node.mounted == {}


async def test_what_was_never_there_is_gone(publisher: Publisher) -> None:
    await publisher.unpublish("1", "/nowhere/at/all")
    await publisher.unstage("1", "/nowhere")


# --- the same target again (B.5 of the specification's table) ---------------------------------


@pytest.mark.parametrize("first", [(), ("ro",), ("nosuid", "nodev")])
@pytest.mark.parametrize("second", [(), ("ro",), ("nosuid", "nodev"), ("nodev", "nosuid"), ("ro", "nosuid", "nodev")])
async def test_the_same_target_with_the_same_and_with_other_options(
    node: SimulatedMounter, publisher: Publisher, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(replace(PUBLISH, options=first))
    again = publisher.publish(replace(PUBLISH, options=second))
    if set(first) == set(second):
        await again
    else:
        with pytest.raises(Conflict, match="asked for"):
            await again
    state = await node.inspect(PUBLISH.target)
    assert state is not None
    assert set(first) <= set(state.options)
    assert ("ro" in state.options) is ("ro" in first)


async def test_exclusive_volumes_have_one_target(node: SimulatedMounter, publisher: Publisher) -> None:
    exclusive = replace(PUBLISH, exclusive=True)
    await publisher.stage(STAGE)
    await publisher.publish(exclusive)
    await publisher.publish(exclusive)
    with pytest.raises(InUse, match=PUBLISH.target):
        await publisher.publish(replace(exclusive, target=OTHER.target))
    assert OTHER.target not in node.directories  # nothing may be left there
    await publisher.unpublish("1", PUBLISH.target)
    await publisher.publish(replace(exclusive, target=OTHER.target))


async def test_a_target_with_another_client(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await node.make_directory(PUBLISH.target)
    await node.mount(SOURCE, PUBLISH.target)
    with pytest.raises(Conflict, match="another client"):
        await publisher.publish(PUBLISH)


# --- staging ----------------------------------------------------------------------------------


async def test_publish_needs_the_staging_mount(node: SimulatedMounter, publisher: Publisher) -> None:
    with pytest.raises(NotStaged, match="stage it first"):
        await publisher.publish(PUBLISH)
    await publisher.stage(Stage("2", MountSource(("a",), "vol_2"), "/staging"))
    with pytest.raises(NotStaged, match="a:/vol_2"):
        await publisher.publish(PUBLISH)
    assert PUBLISH.target not in node.directories


async def test_two_volumes_at_one_staging_path(node: SimulatedMounter, publisher: Publisher) -> None:
    both = await asyncio.gather(
        publisher.stage(STAGE),
        publisher.stage(Stage("2", MountSource(("a",), "vol_2"), "/staging")),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in both) == ["Conflict", "NoneType"]
    assert node.mounted == {"/staging": 1}


async def test_another_order_of_servers_is_the_same_volume(publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.stage(replace(STAGE, source=MountSource(("b", "c"), "vol_1")))


async def test_a_stage_that_fails_leaves_nothing(node: SimulatedMounter, publisher: Publisher) -> None:
    node.volumes.clear()
    with pytest.raises(MountFailed, match="no volume vol_1"):
        await publisher.stage(STAGE)
    assert set(node.directories) == {"/"}
    await node.make_directory("/staging")
    with pytest.raises(MountFailed):
        await publisher.stage(STAGE)
    assert "/staging" in node.directories  # the caller's own stays


async def test_a_publish_that_fails_leaves_nothing(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    node.failing["bind"] = "EPERM"
    with pytest.raises(MountFailed, match="EPERM"):
        await publisher.publish(PUBLISH)
    assert PUBLISH.target not in node.directories
    assert node.mounted == {"/staging": 1}


async def test_unstage_while_published(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    with pytest.raises(InUse, match=PUBLISH.target):
        await publisher.unstage("1", "/staging")
    assert node.clients == 1


# --- clients that die and clients that are silent ---------------------------------------------


@pytest.mark.parametrize("by", ["stage", "publish"])
async def test_a_dead_client_is_replaced_and_its_targets_are_bound_again(
    node: SimulatedMounter, publisher: Publisher, by: str
) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(replace(PUBLISH, options=("ro", "nosuid")))
    await publisher.publish(OTHER)
    dead = node.client("/staging")
    dead.health = Health.DEAD
    await (publisher.stage(STAGE) if by == "stage" else publisher.publish(OTHER))
    # Over the dead mounts, for the containers that see it by propagation.
    assert node.mounted == {"/staging": 1, PUBLISH.target: 2, OTHER.target: 2}
    new = node.client("/staging")
    assert new is not dead
    assert node.client(PUBLISH.target) is node.client(OTHER.target) is new
    await publisher.publish(replace(PUBLISH, options=("ro", "nosuid")))  # its options are as they were


async def test_a_repair_that_fails_half_way_goes_on(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    await publisher.publish(OTHER)
    node.client("/staging").health = Health.DEAD
    node.failing["mount"] = "no server answered"
    with pytest.raises(MountFailed, match="no server"):
        await publisher.publish(PUBLISH)
    node.failing["bind"] = "EPERM"
    with pytest.raises(MountFailed, match="EPERM"):
        await publisher.publish(PUBLISH)
    await publisher.publish(PUBLISH)
    assert node.mounted == {"/staging": 1, PUBLISH.target: 2, OTHER.target: 2}
    assert node.client(PUBLISH.target) is node.client(OTHER.target) is node.client("/staging")


async def test_a_target_that_goes_during_a_repair_does_not_come_back(
    node: SimulatedMounter, publisher: Publisher
) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    node.client("/staging").health = Health.DEAD
    node.failing["mount"] = "no server answered"
    with pytest.raises(MountFailed):
        await publisher.stage(STAGE)
    await publisher.unpublish("1", PUBLISH.target)
    await publisher.stage(STAGE)
    assert node.mounted == {"/staging": 1}
    assert PUBLISH.target not in node.directories


async def test_a_dead_target_left_over_is_bound_anew(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    node.client("/staging").health = Health.DEAD
    await node.unmount("/staging")
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    assert node.client(PUBLISH.target) is node.client("/staging")


@pytest.mark.parametrize("health", [Health.AWAY, Health.SILENT])
async def test_a_client_that_may_recover_is_left_alone(
    node: SimulatedMounter, publisher: Publisher, health: Health
) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    client = node.client("/staging")
    client.health = health
    for call in (publisher.stage(STAGE), publisher.publish(PUBLISH), publisher.publish(OTHER)):
        with pytest.raises(Unavailable, match="its client runs"):
            await call
    assert node.mounted == {"/staging": 1, PUBLISH.target: 1}
    client.health = Health.WELL
    await publisher.publish(OTHER)
    assert node.client(OTHER.target) is client


@pytest.mark.parametrize("health", list(Health))
async def test_teardown_works_whatever_the_client_does(
    node: SimulatedMounter, publisher: Publisher, health: Health
) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    node.client("/staging").health = health
    await publisher.unpublish("1", PUBLISH.target)
    await publisher.unstage("1", "/staging")
    assert node.mounted == {}


# --- nothing is destroyed ---------------------------------------------------------------------


async def test_data_below_an_unmounted_target_stays(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await node.make_directory(PUBLISH.target)
    node.directories[PUBLISH.target].add("precious")
    with pytest.raises(MountFailed, match="precious"):
        await publisher.publish(PUBLISH)
    with pytest.raises(MountFailed, match="precious"):
        await publisher.unpublish("1", PUBLISH.target)
    assert node.directories[PUBLISH.target] == {"precious"}


async def test_a_busy_mount_stays_with_its_directory(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    node.busy.add(PUBLISH.target)
    with pytest.raises(MountFailed, match="EBUSY"):
        await publisher.unpublish("1", PUBLISH.target)
    assert node.mounted[PUBLISH.target] == 1
    node.busy.clear()
    await publisher.unpublish("1", PUBLISH.target)


class ForeignMounts(SimulatedMounter):
    """Something else than GlusterFS is mounted everywhere."""

    unmounted = 0

    async def inspect(self, target: str) -> MountState | None:
        return MountState("/dev/sda1", "ext4", "8:1", ("rw",), alive=True)

    async def unmount(self, target: str) -> None:
        self.unmounted += 1


async def test_mounts_of_others_are_left_alone() -> None:
    node = ForeignMounts(["vol_1"])
    publisher = Publisher(node)
    for ending in (publisher.unpublish("1", "/mnt"), publisher.unstage("1", "/mnt")):
        with pytest.raises(Incoherent, match="ext4"):
            await ending
    with pytest.raises(Conflict, match="ext4"):
        await publisher.stage(STAGE)
    with pytest.raises(NotStaged, match="ext4"):
        await publisher.publish(PUBLISH)
    with pytest.raises(NotFound):
        await publisher.stats("1", "/mnt")
    assert node.unmounted == 0


# --- deadlines --------------------------------------------------------------------------------


async def test_a_deadline_leaves_no_half_stage_and_a_retry_joins(node: SimulatedMounter, publisher: Publisher) -> None:
    node.gate = asyncio.Event()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(publisher.stage(STAGE), 0.02)
    retry = asyncio.create_task(publisher.stage(STAGE))
    await asyncio.sleep(0.02)
    node.gate.set()
    await retry
    assert node.mounted == {"/staging": 1}


# --- stats ------------------------------------------------------------------------------------


async def test_stats(node: SimulatedMounter, publisher: Publisher) -> None:
    await publisher.stage(STAGE)
    await publisher.publish(PUBLISH)
    for path in ("/staging", PUBLISH.target):
        well = await publisher.stats("1", path)
        assert not well.abnormal
        assert well.usage is not None
        assert well.usage.total == 1 << 30
    for path in ("/pods/1", "/elsewhere", "pods/1/mount", ""):
        with pytest.raises(NotFound):
            await publisher.stats("1", path)


@pytest.mark.parametrize(
    ("health", "says"),
    [
        (Health.DEAD, "client on this node has died"),
        (Health.SILENT, "no answer within"),
        (Health.AWAY, "Transport endpoint is not connected"),
    ],
)
async def test_stats_of_the_sick(node: SimulatedMounter, publisher: Publisher, health: Health, says: str) -> None:
    await publisher.stage(STAGE)
    node.client("/staging").health = health
    stats = await publisher.stats("1", "/staging")
    assert stats.abnormal
    assert stats.usage is None
    assert says in stats.message

"""What every BrickBackend promises, by LVM: over simulated hosts, and in the virtual machine on real ones."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from csi.bricks import identity, lvmpaths, lvmtags
from csi.bricks.identity import DeviceMark
from csi.bricks.lvm import LvmBackend
from csi.bricks.lvmcopies import LvmCopies
from csi.core import naming, sizes
from csi.core.command import Command, Script
from csi.core.errors import HostUnreachable, Incoherent, InUse, InvalidRequest, Unavailable
from csi.core.model import Backend, BrickRole, Device, DeviceId, PlacedBrick, PoolSize
from csi.core.pools import PoolFullness
from tests.contract.bricks import test_bricks, test_devices, test_identities
from tests.contract.bricks.bench import GID, INSTANCE, NOTHING, SIZE, Bench, Interrupted, whole
from tests.contract.lvm_hosts import LaboratoryLvmHost, SimulatedLvmHost
from tests.lab import vm


def _simulated(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Many calls: on real LVM in the virtual machine each takes seconds."""

    @functools.wraps(test)
    async def alike(**fixtures: object) -> None:
        await test(**fixtures)

    return pytest.mark.parametrize("bench", ["simulated"], indirect=True)(alike)


# Those that say nothing of how a backend keeps its bricks run here too, with the fixture of this file.
test_a_brick_in_use_stays_and_its_user_is_named = test_bricks.test_a_brick_in_use_stays_and_its_user_is_named
test_a_claim_can_be_repeated = test_devices.test_a_claim_can_be_repeated
test_a_creation_interrupted_anywhere_can_be_finished = _simulated(
    test_bricks.test_a_creation_interrupted_anywhere_can_be_finished
)
test_a_creation_interrupted_anywhere_can_be_undone = _simulated(
    test_bricks.test_a_creation_interrupted_anywhere_can_be_undone
)
test_a_destruction_interrupted_anywhere_can_be_finished = _simulated(
    test_bricks.test_a_destruction_interrupted_anywhere_can_be_finished
)
test_a_volume_may_have_any_name = _simulated(test_bricks.test_a_volume_may_have_any_name)
test_bricks_are_mounted_again_after_a_reboot = test_bricks.test_bricks_are_mounted_again_after_a_reboot
test_destroying_what_is_not_there_is_fine = _simulated(test_bricks.test_destroying_what_is_not_there_is_fine)
test_identities_written_before_the_volume_grew_are_ours = _simulated(
    test_identities.test_identities_written_before_the_volume_grew_are_ours
)
test_making_it_again_changes_nothing = _simulated(test_bricks.test_making_it_again_changes_nothing)
test_no_bricks_are_no_work = _simulated(test_bricks.test_no_bricks_are_no_work)
test_owner_and_mode_that_users_gave_to_the_directory_stay = (
    test_bricks.test_owner_and_mode_that_users_gave_to_the_directory_stay
)
test_several_bricks_of_a_host_are_one_call = test_bricks.test_several_bricks_of_a_host_are_one_call
test_the_directory_has_the_mode_that_is_asked_for = _simulated(
    test_bricks.test_the_directory_has_the_mode_that_is_asked_for
)

KINDS = ("simulated", *([pytest.param("lab", marks=pytest.mark.lab)] if vm.inside() else []))


@dataclass
class LvmBench(Bench):
    on: SimulatedLvmHost | LaboratoryLvmHost  # type: ignore[assignment]
    backend: LvmCopies  # type: ignore[assignment]

    def placed(
        self,
        name: str = "pvc-1",
        *,
        index: int = 0,
        device: int = 0,
        gid: int = GID,
        mode: int = 0o2770,
        size: int = SIZE,
        role: BrickRole = BrickRole.DATA,
    ) -> PlacedBrick:
        made = super().placed(name, index=index, device=device, gid=gid, mode=mode, size=size, role=role)
        path = naming.brick_directory(made.device.id, made.brick.id, Backend.LVM)
        return replace(made, identity=replace(made.identity, brick=replace(made.brick, path=path)))


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[LvmBench]:
    on: SimulatedLvmHost | LaboratoryLvmHost
    on = SimulatedLvmHost() if request.param == "simulated" else LaboratoryLvmHost(request.getfixturevalue("clean_lab"))
    runner = Interrupted(on.runner)
    backend = LvmCopies(runner, INSTANCE, on.fstab)
    first, second = (
        Device(naming.device_id(on.host.id, path), on.host.id, path, Backend.LVM, 7 << 30) for path in on.devices
    )
    made = LvmBench(on, runner, backend, (first, second))
    on.clear()  # of what a driver of another test has claimed
    try:
        for device in made.devices:
            await backend.claim(on.host, device, INSTANCE)
        made.clean = on.traces()
        yield made
    finally:
        on.clear()
        await on.close()


def volume(placed: PlacedBrick) -> str:
    group, name, _ = lvmpaths.names(placed)
    return f"{group}/{name}"


def pool(placed: PlacedBrick) -> str:
    group, _, name = lvmpaths.names(placed)
    return f"{group}/{name}"


# --- devices ----------------------------------------------------------------------------------


async def test_the_total_of_a_device_does_not_change_with_the_claim_or_bricks(bench: LvmBench) -> None:
    device = bench.devices[0]
    await bench.backend.give_back(bench.on.host, device)
    blank = await bench.backend.check(bench.on.host, device.path)
    await bench.backend.claim(bench.on.host, device, INSTANCE)
    placed = bench.placed()
    await bench.create(placed)
    assert await bench.backend.check(bench.on.host, device.path) == blank
    with pytest.raises(Unavailable, match="still in use"):
        await bench.backend.give_back(bench.on.host, device)
    await bench.destroy(placed)


async def test_a_device_is_given_back_only_if_it_is_ours_and_empty(bench: LvmBench) -> None:
    device = bench.devices[0]
    group = naming.volume_group(device.id)
    bench.on.make_volume(group, "tp_x", "x")
    with pytest.raises(Unavailable, match=r"still in use.*x"):
        await bench.backend.give_back(bench.on.host, device)
    bench.on.remove_volume(f"{group}/tp_x")
    other = LvmBackend(bench.runner, "another", bench.on.fstab)
    with pytest.raises(Unavailable, match=f"carries the mark of instance '{INSTANCE}'"):
        await other.give_back(bench.on.host, device)
    for _ in range(2):  # once more is fine
        await bench.backend.give_back(bench.on.host, device)
    assert await bench.backend.check(bench.on.host, device.path)
    await bench.backend.claim(bench.on.host, device, INSTANCE)
    # What somebody else has by now is left to him.
    strange = replace(bench.devices[1], id=DeviceId("e" * 32))
    await bench.backend.give_back(bench.on.host, strange)
    await bench.backend.verify(bench.on.host, [bench.placed(device=1)])


async def test_what_cannot_carry_bricks_is_refused_with_the_reason(bench: LvmBench) -> None:
    for path, reason in (
        ("/dev/nothing", "no such device"),
        ("/etc", "block device below"),
        ("/dev/loop-control", "not a block"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            await bench.backend.check(bench.on.host, path)


async def test_a_device_has_one_owner(bench: LvmBench) -> None:
    first = bench.devices[0]
    with pytest.raises(InUse, match=INSTANCE):
        await bench.backend.claim(bench.on.host, first, "somebody else")
    other = LvmBackend(bench.runner, "another", bench.on.fstab)
    for destroy in (False, True):
        with pytest.raises(InvalidRequest, match=f"{INSTANCE}.*never wiped"):
            await other.check(bench.on.host, first.path, destroy=destroy)
    assert bench.on.traces() == bench.clean


@pytest.mark.parametrize("mark", [None, DeviceMark("another", DeviceId("d" * 32))])
async def test_nothing_is_done_on_a_device_without_our_mark(bench: LvmBench, mark: DeviceMark | None) -> None:
    placed = bench.placed()
    bench.on.retag(naming.volume_group(placed.device.id), "" if mark is None else lvmtags.of_device(mark))
    before = bench.on.traces()
    for call in (
        bench.backend.create(bench.on.host, [placed]),
        bench.destroy(placed),
        bench.inspect(placed),
        bench.backend.find(bench.on.host, bench.devices),
    ):
        with pytest.raises(Unavailable, match="no tag of ours" if mark is None else "another"):
            await call
    assert bench.on.traces() == before


async def test_tags_of_an_administrator_do_no_harm(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    for name, tags in (
        (naming.volume_group(placed.device.id), lvmtags.of_device(DeviceMark(INSTANCE, placed.device.id))),
        (pool(placed), lvmtags.of_brick(placed.identity)),
    ):
        bench.on.retag(name, f"{tags},backup,csi.f")
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.backend.claim(bench.on.host, placed.device, INSTANCE)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_volume_group_that_has_gone_is_named(bench: LvmBench) -> None:
    await bench.backend.give_back(bench.on.host, bench.devices[0])
    with pytest.raises(Unavailable, match=f"{bench.on.host.manage} has no volume group vg_{bench.devices[0].id}"):
        await bench.create(bench.placed())
    await bench.backend.claim(bench.on.host, bench.devices[0], INSTANCE)


# --- bricks -----------------------------------------------------------------------------------


async def test_a_brick_is_made_whole_and_removed_whole(bench: LvmBench) -> None:
    placed = bench.placed()
    assert await bench.inspect(placed) == (NOTHING,)
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    assert bench.on.owner(placed.brick.path) == (0o2770, GID)
    group, name, _ = lvmpaths.names(placed)
    point = f"/var/lib/heketi/mounts/{group}/{name}"
    assert bench.on.traces() - bench.clean == {
        f"volume {volume(placed)}",
        f"volume {pool(placed)}",
        f"mount {point}",
        f"point {group}/{name}",
        f"fstab /dev/mapper/{group}-{name} {point} xfs rw,inode64,noatime,nouuid 1 2",
    }
    await bench.destroy(placed)
    assert await bench.inspect(placed) == (NOTHING,)
    assert bench.on.traces() == bench.clean


async def test_nothing_can_be_written_where_a_brick_should_be_mounted(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    point = lvmpaths.mount_point(placed)
    bench.on.unmount(point)
    state = (await bench.inspect(placed))[0]
    assert (state.image, state.mounted, state.directory, state.identity) == (True, False, False, placed.identity)
    with pytest.raises((OSError, AssertionError), match="not permitted"):
        bench.on.write(f"{point}/on-the-root-disk", "x")
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    bench.on.unmount(point)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_pool_whose_volume_was_never_made_is_finished_or_removed(bench: LvmBench) -> None:
    placed = bench.placed()
    for finish in (True, False):
        await bench.create(placed)
        bench.on.unmount(lvmpaths.mount_point(placed))
        bench.on.remove_volume(volume(placed))
        if finish:
            await bench.create(placed)
            assert await bench.inspect(placed) == (whole(placed),)
        await bench.destroy(placed)
        assert bench.on.traces() == bench.clean


async def test_whatever_ends_it_a_creation_can_be_finished_and_removed(bench: LvmBench) -> None:
    placed = bench.placed()
    for after in range(1, 6):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.backend.create(bench.on.host, [placed])
        bench.runner.after = None
        if after % 2:
            await bench.create(placed)
            assert await bench.inspect(placed) == (whole(placed),), f"after {after} commands"
        await bench.destroy(placed)
        assert bench.on.traces() == bench.clean, f"after {after} commands"


async def test_many_are_destroyed_at_once(bench: LvmBench) -> None:
    bricks = [bench.placed(f"pvc-{n}", device=n % 2, size=512 << 20) for n in range(6)]
    await bench.create(*bricks)
    await asyncio.gather(*(bench.destroy(placed) for placed in bricks))
    assert bench.on.traces() == bench.clean


async def test_a_brick_that_says_it_is_not_ours_stays(bench: LvmBench) -> None:
    good, bad = bench.placed(), bench.placed(index=1)
    await bench.create(good, bad)
    before = bench.on.traces()
    ours = lvmtags.of_brick(bad.identity)
    for tags, reason in (
        (lvmtags.of_brick(replace(bad.identity, volume_name="another")), "volume 'another'"),
        ("somebody", "'somebody'"),
        ("", "without a tag"),
    ):
        bench.on.retag(pool(bad), tags)
        for call in (bench.destroy(good, bad), bench.backend.verify(bench.on.host, [bad]), bench.create(bad)):
            with pytest.raises(Incoherent, match=reason) as caught:
                await call
            assert volume(bad) in str(caught.value)
        assert bench.on.traces() == before
    bench.on.retag(pool(bad), ours)
    bench.on.write(lvmpaths.identity_file(bad), "{}\n")
    with pytest.raises(Incoherent, match=r"'\{\}'"):
        await bench.destroy(good, bad)
    assert bench.on.traces() == before
    bench.on.write(lvmpaths.identity_file(bad), identity.write(bad.identity) + "\n")
    await bench.destroy(good, bad)
    assert bench.on.traces() == bench.clean


async def test_a_volume_of_another_size_is_not_taken_for_ours(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bigger = replace(placed, identity=replace(placed.identity, brick=replace(placed.brick, size=2 * SIZE)))
    with pytest.raises(Incoherent, match=str(SIZE)):
        await bench.create(bigger)
    await bench.destroy(placed)


async def test_a_pool_that_another_volume_lies_in_stays(bench: LvmBench) -> None:
    """A snapshot by hand, or a copy of ours."""
    placed = bench.placed()
    await bench.create(placed)
    group = naming.volume_group(placed.device.id)
    command = Command(("lvcreate", "-qq", "-s", "--name", "copy", volume(placed)))
    await bench.runner.run(bench.on.host, Script((command,)))
    await bench.destroy(placed)
    assert bench.on.traces() - bench.clean == {f"volume {group}/copy", f"volume {pool(placed)}"}


async def test_bricks_grow_while_they_are_in_use(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bigger = replace(
        placed, identity=replace(placed.identity, volume_size=2 * SIZE, brick=replace(placed.brick, size=2 * SIZE))
    )
    release = bench.on.hold(placed.brick.path)
    before = bench.on.size(lvmpaths.mount_point(placed))
    for _ in range(2):
        await bench.backend.grow(bench.on.host, [bigger])
        assert await bench.inspect(bigger) == (whole(bigger),)
        assert bench.on.size(lvmpaths.mount_point(placed)) - before == SIZE
        assert json.loads(bench.on.read(lvmpaths.identity_file(placed)))["volume_size"] == 2 * SIZE
    await bench.backend.grow(bench.on.host, [placed])  # never smaller
    assert (await bench.inspect(placed))[0].size == 2 * SIZE
    release()
    bench.on.unmount(lvmpaths.mount_point(placed))
    with pytest.raises(Unavailable, match="not mounted"):
        await bench.backend.grow(bench.on.host, [bigger])
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_growth_without_room_says_so_and_changes_nothing(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    huge = replace(placed, identity=replace(placed.identity, brick=replace(placed.brick, size=900 * SIZE)))
    with pytest.raises(Unavailable, match="no room"):
        await bench.backend.grow(bench.on.host, [huge])
    assert (await bench.inspect(placed))[0].size == SIZE
    await bench.destroy(placed)


# --- beside Heketi ----------------------------------------------------------------------------


async def test_what_heketi_made_is_not_ours_until_it_is_taken_over(bench: LvmBench) -> None:
    placed = bench.placed()
    group, name, _ = lvmpaths.names(placed)
    bench.on.make_volume(group, "tp_" + "a" * 32, name)  # Heketi's pools may have another id
    with pytest.raises(Incoherent, match="without a tag"):
        await bench.destroy(placed)
    assert await bench.backend.find(bench.on.host, bench.devices) == ()
    volumes = {group.name: group.volumes for group in await bench.backend.survey(bench.on.host)}
    assert (volumes[group][name].pool, volumes[group][name].size) == ("tp_" + "a" * 32, SIZE)
    with pytest.raises(Unavailable, match="not mounted"):
        await bench.backend.take_over(bench.on.host, placed.device, [placed])
    point, device = lvmpaths.mount_point(placed), lvmpaths.block_device(placed)
    commands = [("mkdir", "-p", point), ("mkfs.xfs", "-i", "size=512", "-n", "size=8192", device)]
    commands += [("mount", "-o", lvmpaths.MOUNT_OPTIONS, device, point), ("mkdir", f"{point}/brick")]
    await bench.runner.run(bench.on.host, Script(tuple(map(Command, commands))))
    for _ in range(2):
        await bench.backend.take_over(bench.on.host, placed.device, [placed])
    assert await bench.inspect(placed) == (whole(placed),)
    stranger = replace(placed, identity=replace(placed.identity, volume_name="another"))
    with pytest.raises(Incoherent, match=placed.identity.volume_name):
        await bench.backend.take_over(bench.on.host, placed.device, [stranger])
    assert await bench.backend.find(bench.on.host, bench.devices) == (placed.identity,)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_broken_connection_is_told(bench: LvmBench) -> None:
    bench.runner.after = 0
    with pytest.raises(HostUnreachable):
        await bench.create(bench.placed())
    bench.runner.after = None


# --- thin pools -------------------------------------------------------------------------------


async def test_a_pool_is_extended_once_and_its_brick_says_what_it_takes(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)

    async def look() -> PoolFullness:
        (group,) = await bench.backend.fullness(bench.on.host, [placed.device])
        # The records count no byte more and no byte less.
        assert group.taken == sum(one.size + one.metadata_size for one in group.pools)
        (found,) = group.pools
        return found

    before = await look()
    assert before.size + before.metadata_size == sizes.footprint(Backend.LVM, placed.brick.size, 1.0)
    assert (before.name, before.bricks, before.promised) == (pool(placed), (placed.brick.id,), before.size)
    wanted = PoolSize(placed.brick.id, before.size + (100 << 20), before.metadata_size + (4 << 20))
    taking = replace(placed.brick, footprint=placed.brick.footprint + (104 << 20))
    larger = replace(placed, identity=replace(placed.identity, brick=taking))
    for _ in range(2):
        await bench.backend.extend_pools(bench.on.host, [larger], [wanted])
        after = await look()
        assert (after.size, after.metadata_size) == (wanted.data, wanted.metadata)
        assert after.room <= before.room - (104 << 20)
        assert await bench.inspect(larger) == (whole(larger),)
    # It never gets smaller, and never larger than there is room.
    await bench.backend.extend_pools(bench.on.host, [larger], [PoolSize(placed.brick.id, 0, 0)])
    with pytest.raises(Unavailable, match="has no room"):
        await bench.backend.extend_pools(
            bench.on.host, [larger], [replace(wanted, data=wanted.data + after.room + (64 << 20))]
        )
    assert await look() == after
    await bench.destroy(larger)
    assert bench.on.traces() == bench.clean

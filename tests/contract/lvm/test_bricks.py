"""What every BrickBackend promises of bricks, by LVM: made whole, removed whole, and nobody else's."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from csi.bricks import identity, lvmpaths, lvmtags
from csi.core import naming
from csi.core.command import Command, Script
from csi.core.errors import HostUnreachable, Incoherent, Unavailable
from tests.contract.bricks import test_bricks, test_identities
from tests.contract.bricks.bench import GID, NOTHING, SIZE, whole
from tests.contract.lvm.bench import LvmBench, pool, volume


def _simulated(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Many calls: on real LVM in the virtual machine each takes seconds."""

    @functools.wraps(test)
    async def alike(**fixtures: object) -> None:
        await test(**fixtures)

    marked: Callable[..., Awaitable[None]] = pytest.mark.parametrize("bench", ["simulated"], indirect=True)(alike)
    return marked


# Those that say nothing of how a backend keeps its bricks run here too, with the fixture of this directory.
test_a_brick_in_use_stays_and_its_user_is_named = test_bricks.test_a_brick_in_use_stays_and_its_user_is_named
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
test_nothing_can_be_written_where_a_brick_should_be_mounted = (
    test_bricks.test_nothing_can_be_written_where_a_brick_should_be_mounted
)
test_owner_and_mode_that_users_gave_to_the_directory_stay = (
    test_bricks.test_owner_and_mode_that_users_gave_to_the_directory_stay
)
test_several_bricks_of_a_host_are_one_call = test_bricks.test_several_bricks_of_a_host_are_one_call
test_the_directory_has_the_mode_that_is_asked_for = _simulated(
    test_bricks.test_the_directory_has_the_mode_that_is_asked_for
)


# --- by LVM alone -----------------------------------------------------------------------------


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


async def test_a_broken_connection_is_told(bench: LvmBench) -> None:
    bench.runner.after = 0
    with pytest.raises(HostUnreachable):
        await bench.create(bench.placed())
    bench.runner.after = None


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

"""What every BrickBackend promises of bricks: they are made whole, mounted at boot and removed whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from csi.bricks.file import FileBackend
from csi.core import naming
from csi.core.errors import CommandFailed, HostUnreachable, Unavailable
from tests.contract.bricks.bench import GID, INSTANCE, NOTHING, Bench, image, tag, whole

# --- creation ---------------------------------------------------------------------------------


async def test_a_brick_is_made_whole_and_removed_whole(bench: Bench) -> None:
    placed = bench.placed()
    assert await bench.inspect(placed) == (NOTHING,)
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    assert bench.on.owner(placed.brick.path) == (0o2770, GID)
    assert bench.on.traces() - bench.clean == {
        f"file {tag(placed)}",
        f"file {image(placed)}",
        f"mount {naming.brick_mount(placed.device.id, placed.brick.id)}",
        f"point {placed.device.id}/{placed.brick.id}",
        f"fstab {image(placed)} {naming.brick_mount(placed.device.id, placed.brick.id)} xfs "
        "loop,noatime,inode64,nouuid,nofail 0 0",
    }
    await bench.destroy(placed)
    assert await bench.inspect(placed) == (NOTHING,)
    assert bench.on.traces() == bench.clean


async def test_several_bricks_of_a_host_are_one_call(bench: Bench) -> None:
    bricks = [bench.placed(index=n, device=n % 2) for n in range(4)]
    await bench.create(*bricks)
    assert await bench.inspect(*bricks) == tuple(map(whole, bricks))
    found = await bench.backend.find(bench.on.host, bench.devices)
    assert sorted(found, key=lambda i: i.brick.index) == [p.identity for p in bricks]
    await bench.destroy(*bricks)
    assert await bench.backend.find(bench.on.host, bench.devices) == ()
    assert bench.on.traces() == bench.clean


async def test_a_volume_may_have_any_name(bench: Bench) -> None:
    placed = bench.placed("\u2028a\x85 'b' \"c\" $(id) `id` \\ ümläut\n\t日本語")
    await bench.create(placed)
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    assert await bench.backend.find(bench.on.host, bench.devices) == (placed.identity,)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_no_bricks_are_no_work(bench: Bench) -> None:
    await bench.create()
    await bench.destroy()
    assert await bench.inspect() == ()
    assert await bench.backend.find(bench.on.host, []) == ()
    assert bench.on.traces() == bench.clean


@pytest.mark.parametrize("mode", [0o770, 0o2775, 0o3777])
async def test_the_directory_has_the_mode_that_is_asked_for(bench: Bench, mode: int) -> None:
    placed = bench.placed(mode=mode, gid=2000)
    await bench.create(placed)
    assert bench.on.owner(placed.brick.path) == (mode, 2000)
    await bench.destroy(placed)


async def test_making_it_again_changes_nothing(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    before = bench.on.traces()
    await bench.create(placed)
    assert bench.on.traces() == before
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.destroy(placed)


async def test_a_creation_interrupted_anywhere_can_be_finished(bench: Bench) -> None:
    placed, other = bench.placed(), bench.placed(index=1)
    await bench.create(placed, other)
    made, length = bench.on.traces(), bench.runner.length
    await bench.destroy(placed, other)
    for after in range(length + 1):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.create(placed, other)
        bench.runner.after = None
        await bench.create(placed, other)
        assert bench.on.traces() == made, f"after {after} commands"
        assert await bench.inspect(placed, other) == (whole(placed), whole(other))
        await bench.destroy(placed, other)
        assert bench.on.traces() == bench.clean


async def test_a_creation_interrupted_anywhere_can_be_undone(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    length = bench.runner.length
    await bench.destroy(placed)
    for after in range(length + 1):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.create(placed)
        bench.runner.after = None
        if bench.on.traces() != bench.clean:
            found = await bench.backend.find(bench.on.host, bench.devices)
            assert found == (placed.identity,), f"after {after} commands"
        await bench.destroy(placed)
        assert bench.on.traces() == bench.clean, f"after {after} commands"


async def test_what_an_interrupted_formatting_left_is_swept_up(bench: Bench) -> None:
    placed = bench.placed()
    stem = tag(placed).removesuffix(".json")
    for number in range(2):
        for end in ("img", "proto"):
            bench.on.write(f"{stem}.1.{end}.part", "half")
        if number == 0:
            await bench.create(placed)
            assert await bench.inspect(placed) == (whole(placed),)
            assert not [trace for trace in bench.on.traces() if trace.endswith(".part")]
        else:
            await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_an_image_that_cannot_be_made_leaves_what_can_be_undone(bench: Bench) -> None:
    placed = bench.placed(size=200 << 20)  # less than an XFS needs
    with pytest.raises(Exception, match="300MB"):
        await bench.create(placed)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_shells_that_make_the_same_brick_at_once_do_not_spoil_it(bench: Bench) -> None:
    """A lost caller's shell may still be at work when the next caller comes. Some may fail; none may do harm."""
    placed = bench.placed()
    for _ in range(3):
        await asyncio.gather(*(bench.create(placed) for _ in range(4)), return_exceptions=True)
        await bench.create(placed)
        assert await bench.inspect(placed) == (whole(placed),)
        assert bench.on.owner(placed.brick.path) == (0o2770, GID)
        await asyncio.gather(*(bench.destroy(placed) for _ in range(4)), return_exceptions=True)
        await bench.destroy(placed)
        assert bench.on.traces() == bench.clean


# --- mounts -----------------------------------------------------------------------------------


async def test_bricks_are_mounted_again_after_a_reboot(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bench.on.reboot()
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.destroy(placed)
    bench.on.reboot()
    assert bench.on.traces() == bench.clean


async def test_nothing_can_be_written_where_a_brick_should_be_mounted(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    point = bench.mount_point(placed)
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


async def test_owner_and_mode_that_users_gave_to_the_directory_stay(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    await bench.create(replace(placed, root_mode=0o2775))
    assert bench.on.owner(placed.brick.path) == (0o2770, GID)
    await bench.destroy(placed)


async def test_an_fstab_that_cannot_be_written_is_an_error_of_its_own(bench: Bench) -> None:
    """And not the end of the shell that found out."""
    placed = bench.placed()
    await bench.create(placed)
    backend = FileBackend(bench.runner, INSTANCE, "/nowhere/fstab")
    with pytest.raises(CommandFailed, match="/nowhere/fstab"):
        await backend.mount_at_boot(bench.on.host, [placed])
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_many_at_once_lose_no_line_of_fstab(bench: Bench) -> None:
    kept = "# a remark\nUUID=1 /somewhere xfs noauto 0 0"
    own = bench.on.read(bench.on.fstab)
    bench.on.write(bench.on.fstab, own + kept)  # without a newline at its end
    bricks = [bench.placed(f"pvc-{n}", device=n % 2) for n in range(6)]
    await asyncio.gather(*(bench.create(placed) for placed in bricks))
    lines = bench.on.read(bench.on.fstab).splitlines()
    assert sorted(line.split()[0] for line in lines[-6:]) == sorted(map(image, bricks))
    assert lines[:-6] == (own + kept).splitlines()
    await asyncio.gather(*(bench.destroy(placed) for placed in bricks))
    assert bench.on.read(bench.on.fstab) == own + kept + "\n"
    bench.on.write(bench.on.fstab, own)
    assert bench.on.traces() == bench.clean


async def test_an_old_line_for_the_mount_point_is_replaced(bench: Bench) -> None:
    placed = bench.placed()
    own = bench.on.read(bench.on.fstab)
    point = naming.brick_mount(placed.device.id, placed.brick.id)
    bench.on.write(
        bench.on.fstab, f"{own}/old.img {point} xfs loop 0 0\n/old.img {point}0 xfs loop,noauto,nofail 0 0\n"
    )
    await bench.create(placed)
    lines = [line for line in bench.on.read(bench.on.fstab).splitlines() if point in line]
    assert sorted(line.split()[0] for line in lines) == sorted(["/old.img", image(placed)])
    await bench.destroy(placed)
    assert bench.on.read(bench.on.fstab) == f"{own}/old.img {point}0 xfs loop,noauto,nofail 0 0\n"
    bench.on.write(bench.on.fstab, own)


# --- destruction ------------------------------------------------------------------------------


async def test_destroying_what_is_not_there_is_fine(bench: Bench) -> None:
    await bench.destroy(bench.placed())
    assert bench.on.traces() == bench.clean


async def test_a_destruction_interrupted_anywhere_can_be_finished(bench: Bench) -> None:
    placed, other = bench.placed(), bench.placed(index=1)
    await bench.create(placed, other)
    await bench.destroy(placed, other)
    for after in range(bench.runner.length + 1):
        await bench.create(placed, other)
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.destroy(placed, other)
        bench.runner.after = None
        await bench.destroy(placed, other)
        assert bench.on.traces() == bench.clean, f"after {after} commands"


async def test_a_brick_in_use_stays_and_its_user_is_named(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    release = bench.on.hold(placed.brick.path)
    try:
        with pytest.raises(Unavailable, match=r"held by processes: *\d+"):
            await bench.destroy(placed)
        state = (await bench.inspect(placed))[0]
        assert (state.image, state.mounted, state.identity) == (True, True, placed.identity)
    finally:
        release()
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean

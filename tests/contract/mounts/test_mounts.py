"""What every Mounter promises of mounts, binds and the directories that they are at."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from csi.core.errors import MountFailed
from csi.mounts import mountinfo
from tests.contract.mounts.worlds import RealWorld, World

FLAGS = ("nosuid", "nodev", "noexec", "noatime", "nodiratime")


# --- mounts and binds -------------------------------------------------------------------------


async def test_nothing_is_there(world: World) -> None:
    await world.mounter.make_directory(f"{world.root}/a")
    for path in (f"{world.root}/a", f"{world.root}/missing", f"{world.root}/missing/below"):
        assert await world.mounter.inspect(path) is None
        await world.mounter.unmount(path)


async def test_a_live_mount_and_what_it_says(world: World) -> None:
    await world.start(f"{world.root}/s")
    state = await world.mounter.inspect(f"{world.root}/s/")
    assert state is not None
    assert (state.alive, state.dead, state.reason) == (True, False, "")
    assert state.usage is not None
    assert state.usage.total >= state.usage.used + state.usage.available > 0
    assert state.usage.inodes == state.usage.inodes_used + state.usage.inodes_free
    assert await world.mounter.inspect(world.root) is None
    assert await world.mounter.mounts_of(state.device) == (f"{world.root}/s",)


async def test_a_bind_shows_the_same_file_system(world: World) -> None:
    source, target = f"{world.root}/s", f"{world.root}/t"
    await world.start(source)
    world.write(source, "hello")
    await world.mounter.make_directory(target)
    await world.mounter.bind(source, target, [])
    origin, bound = await world.mounter.inspect(source), await world.mounter.inspect(target)
    assert origin is not None
    assert bound is not None
    assert (bound.device, bound.source, bound.fstype) == (origin.device, origin.source, origin.fstype)
    assert "rw" in bound.options
    assert "hello" in world.names(target)
    assert set(await world.mounter.mounts_of(origin.device)) == {source, target}
    assert await world.mounter.mounts_of(origin.device, apart_from=[source]) == (target,)
    await world.mounter.unmount(source)
    assert await world.mounter.mounts_of(origin.device) == (target,)
    assert "hello" in world.names(target)


@pytest.mark.parametrize("options", [("ro",), FLAGS, ("ro", *FLAGS), ("rw", "suid", "exec", "nodev"), ("relatime",)])
async def test_options_of_a_bind(world: World, options: tuple[str, ...]) -> None:
    source, target = f"{world.root}/s", f"{world.root}/t"
    await world.start(source)
    await world.mounter.make_directory(target)
    await world.mounter.bind(source, target, options)
    bound, origin = await world.mounter.inspect(target), await world.mounter.inspect(source)
    assert bound is not None
    assert origin is not None
    kernel = {"ro", *FLAGS}
    assert kernel & set(bound.options) == kernel & set(options)
    assert "rw" in origin.options  # the other mounts of it are as they were


async def test_binds_that_fail_leave_nothing(world: World) -> None:
    await world.start(f"{world.root}/s")
    with pytest.raises(MountFailed, match="ENOENT"):
        await world.mounter.bind(f"{world.root}/s", f"{world.root}/missing", [])
    await world.mounter.make_directory(f"{world.root}/t")
    with pytest.raises(MountFailed, match="ENOENT"):
        await world.mounter.bind(f"{world.root}/gone", f"{world.root}/t", [])
    with pytest.raises(MountFailed, match="'suiddir'"):
        await world.mounter.bind(f"{world.root}/s", f"{world.root}/t", ["ro", "suiddir"])
    assert await world.mounter.inspect(f"{world.root}/t") is None


async def test_a_stack_is_unmounted_to_the_ground(world: World) -> None:
    path = f"{world.root}/s"
    await world.start(path)
    await world.mounter.bind(path, path, ["ro"])
    state = await world.mounter.inspect(path)
    assert state is not None
    assert "ro" in state.options  # the uppermost one
    await world.mounter.unmount(path)
    assert await world.mounter.inspect(path) is None
    assert await world.mounter.mounts_of(state.device) == ()


async def test_a_live_mount_in_use_stays(world: World) -> None:
    path = f"{world.root}/s"
    await world.start(path)
    with world.busy(path):
        with pytest.raises(MountFailed, match="EBUSY"):
            await world.mounter.unmount(path)
        assert (await world.mounter.inspect(path)) is not None
    await world.mounter.unmount(path)
    assert await world.mounter.inspect(path) is None


async def test_hidden_and_linked_paths(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    try:
        await world.start(f"{world.root}/real/s")
        os.symlink("real", f"{world.root}/link")
        state = await world.mounter.inspect(f"{world.root}/link/s")
        assert state is not None
        assert await world.mounter.mounts_of(state.device, apart_from=[f"{world.root}/link/s"]) == ()
        os.makedirs(f"{world.root}/real/over/t")
        await world.mounter.bind(f"{world.root}/link/s", f"{world.root}/link/over/t", [])
        await world.start(f"{world.root}/real/over")
        entries = mountinfo.read()
        hidden = mountinfo.top(entries, f"{world.root}/real/over/t")
        assert hidden is not None
        assert mountinfo.is_hidden(entries, hidden)
    finally:
        await world.close()


async def test_a_mount_that_somebody_looks_at_goes_when_the_look_ends(world: World) -> None:
    """As df does, the kubelet's statistics, and our own question whether it answers."""
    path = f"{world.root}/s"
    await world.start(path)
    with world.busy(path):
        unmounting = asyncio.create_task(world.mounter.unmount(path))
        await asyncio.sleep(0.1)
        assert not unmounting.done()
    await unmounting
    assert await world.mounter.inspect(path) is None


# --- directories ------------------------------------------------------------------------------


async def test_directories(world: World) -> None:
    path = f"{world.root}/a/b"
    assert await world.mounter.make_directory(path)
    assert not await world.mounter.make_directory(path)
    await world.mounter.remove_directory(path)
    await world.mounter.remove_directory(path)
    assert await world.mounter.make_directory(path)


async def test_no_more_than_empty_directories_go(world: World) -> None:
    path = f"{world.root}/a"
    await world.mounter.make_directory(path)
    world.write(path, "precious")
    for act in (world.mounter.make_directory, world.mounter.remove_directory):
        with pytest.raises(MountFailed, match="precious"):
            await act(path)
    assert world.names(path) == {"precious"}


async def test_a_mount_point_is_not_removed_nor_what_is_in_it(world: World) -> None:
    path = f"{world.root}/s"
    await world.start(path)
    world.write(path, "precious")
    with pytest.raises(MountFailed, match="mount point"):
        await world.mounter.remove_directory(path)
    assert "precious" in world.names(path)
    await world.mounter.unmount(path)
    await world.mounter.remove_directory(path)

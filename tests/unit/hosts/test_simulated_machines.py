"""Simulated hosts are believable: what fails on a real host fails there for the same reason."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from csi.core import naming
from csi.core.errors import CommandFailed
from csi.hosts.simulated.machine import Machine
from tests.unit.hosts.simulated_pool import DEVICE, Pool, placed

# --- machines ---------------------------------------------------------------------------------


async def test_a_full_device_takes_no_more_images() -> None:
    pool = await Pool(size=150 << 20).claim()  # two images' logs fit
    for number in range(2):
        await pool.backend.create(pool.hosts[0], [placed(pool.hosts[0], f"v{number}")])
    with pytest.raises(CommandFailed, match="No space left on device"):
        await pool.backend.create(pool.hosts[0], [placed(pool.hosts[0], "v2")])
    await pool.backend.destroy(pool.hosts[0], [placed(pool.hosts[0], "v0"), placed(pool.hosts[0], "v2")])
    await pool.backend.create(pool.hosts[0], [placed(pool.hosts[0], "v2")])


async def test_space_comes_back_when_the_last_holder_of_an_image_goes(pool: Pool) -> None:
    await pool.create()
    machine, image = pool.machines[0], naming.brick_image(DEVICE, pool.bricks[0].brick.id)
    system = machine.filesystem_of(DEVICE)
    used = system.used
    machine.unlink(image)
    assert system.used == used, "the loop device still holds the image"
    machine.unmount(naming.brick_mount(pool.bricks[0].device.id, pool.bricks[0].brick.id))
    assert system.used < 1 << 20


async def test_a_reboot_keeps_disks_and_forgets_the_rest(pool: Pool) -> None:
    await pool.create()
    machine, brick = pool.machines[0], pool.bricks[0]
    machine.spawn("glusterfsd", ("glusterfsd",), brick.brick.path)
    machine.write("/run/something", "x")
    machine.reboot()
    assert machine.boots == 2
    assert machine.processes == {}
    assert machine.find("/run/something") is None
    assert machine.is_directory(brick.brick.path)
    assert not machine.on_root(brick.brick.path)


async def test_what_is_not_in_fstab_is_not_mounted_after_a_reboot(pool: Pool) -> None:
    await pool.create()
    machine = pool.machines[0]
    machine.write(machine.fstab, "")
    machine.reboot()
    assert machine.mounts == {}
    assert machine.on_root(DEVICE)
    with pytest.raises(OSError, match="not permitted"):
        machine.write(naming.brick_mount(pool.bricks[0].device.id, pool.bricks[0].brick.id) + "/x", "x")


async def test_a_lost_image_stops_the_boot_only_without_nofail(pool: Pool) -> None:
    await pool.create()
    machine = pool.machines[0]
    machine.unlink(naming.brick_image(DEVICE, pool.bricks[0].brick.id))
    machine.reboot()
    assert machine.up
    machine.write(machine.fstab, machine.read(machine.fstab).replace(",nofail", ""))
    with pytest.raises(OSError, match="No such file"):
        machine.reboot()
    assert not machine.up


async def test_a_mount_in_use_stays(pool: Pool) -> None:
    await pool.create()
    machine, brick = pool.machines[0], pool.bricks[0]
    process = machine.spawn("glusterfsd", ("glusterfsd",), brick.brick.path)
    mount = machine.mount_of(brick.brick.path)
    assert machine.users_of(mount) == (process,)
    with pytest.raises(OSError, match="busy"):
        machine.unmount(mount)
    assert machine.kill(process.pid)
    assert not machine.kill(process.pid)
    machine.unmount(mount)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda m: m.make_directory("/a/b"), "No such file"),
        (lambda m: m.make_directory("/etc"), "exists"),
        (lambda m: m.make_directory("/etc/fstab/x"), "Not a directory"),
        (lambda m: m.remove_directory("/etc"), "not empty"),
        (lambda m: m.remove_directory(DEVICE), "busy"),
        (lambda m: m.unlink("/etc"), "Is a directory"),
        (lambda m: m.read("/nothing"), "No such file"),
        (lambda m: m.rename("/etc/fstab", f"{DEVICE}/fstab"), "cross-device"),
        (lambda m: m.mount_line("/dev/disk0", DEVICE, "rw"), "busy"),
        (lambda m: m.mount_line("/etc/fstab", "/run", "loop"), "Invalid argument"),
        (lambda m: m.write(f"{DEVICE}/big", "x" * (200 << 20)), "No space"),
    ],
)
async def test_what_a_real_host_refuses_is_refused(act: Callable[[Machine], object], reason: str) -> None:
    with pytest.raises(OSError, match=reason):
        act((await Pool(size=100 << 20).claim()).machines[0])


async def test_a_host_without_immutable_files_says_so_and_goes_on(pool: Pool) -> None:
    pool.machines[0].root.can_be_immutable = False
    await pool.create()
    assert (await pool.backend.inspect(pool.hosts[0], pool.bricks))[0].mounted
    await pool.destroy()


async def test_two_hosts_have_two_addresses(pool: Pool) -> None:
    with pytest.raises(ValueError, match="h1"):
        pool.world.add("h9", "h1")


# --- programs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ("test", "-x", "/etc"),
        ("find", "/etc", "-delete"),
        ("stat", "/etc"),
        ("grep", "a.*b", "/etc/fstab"),
        ("mv", "--backup", "a", "b"),
        ("df",),
    ],
)
async def test_an_unknown_use_of_a_program_fails_loudly(pool: Pool, argv: tuple[str, ...]) -> None:
    with pytest.raises(CommandFailed, match="does not know this use"):
        await pool.run(*argv)


async def test_an_unknown_program_fails_by_name(pool: Pool) -> None:
    with pytest.raises(CommandFailed, match="rsync: not found"):
        await pool.run("rsync", "a", "b")


# --- cost -------------------------------------------------------------------------------------


async def test_a_creation_on_three_hosts_costs_little() -> None:
    """A wide bound: what is aimed at is half a millisecond, so that benchmarks over simulated hosts measure us."""
    pool = await Pool(hosts=3).claim()
    times = []
    for _ in range(30):
        began = time.perf_counter()
        await pool.create()
        times.append(time.perf_counter() - began)
        await pool.destroy()
    assert sorted(times)[5] < 0.005
    print(f"median {sorted(times)[15] * 1e3:.2f} ms")

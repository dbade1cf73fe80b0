"""Simulated hosts are believable: what fails on a real host fails there for the same reason. Faults strike as told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from csi.bricks.file import FileBackend
from csi.core import naming
from csi.core.command import Command, Script
from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable
from csi.core.model import (
    Backend,
    Brick,
    BrickIdentity,
    ClusterId,
    Device,
    Gid,
    Host,
    PlacedBrick,
    VolumeSpec,
)
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Crashed, Fault, Kind, Latency, World

GIB = 1 << 30
NO_LATENCY = Latency()
DEVICE = "/srv/d0"


def host(name: str = "h1") -> Host:
    return Host(naming.host_id(name), ClusterId("c" * 32), name, name, 1)


def placed(on: Host, name: str = "pvc-1", size: int = GIB) -> PlacedBrick:
    volume = naming.volume_id(name)
    device = Device(naming.device_id(on.id, DEVICE), on.id, DEVICE, Backend.FILE, 100 * GIB)
    brick_id = naming.brick_id(volume, 0, 0)
    path = naming.brick_directory(device.id, brick_id)
    brick = Brick(brick_id, 0, 0, on.id, device.id, size, size, path)
    who = BrickIdentity(
        "i", volume, name, naming.gluster_name(volume), on.cluster_id, size, VolumeSpec(), Gid(2000), brick
    )
    return PlacedBrick(who, on, device)


class Pool:
    """A world of hosts with one claimed device each."""

    def __init__(self, hosts: int = 1, size: int = 20 * GIB, latency: Latency = NO_LATENCY) -> None:
        self.slept: list[float] = []
        self.world = World(latency, self._sleep)
        self.hosts = [host(f"h{n}") for n in range(1, hosts + 1)]
        self.machines = [self.world.add(h.manage, devices=(DEVICE,), size=size) for h in self.hosts]
        self.runner = SimulatedRunner(self.world)
        self.backend = FileBackend(self.runner, "i")
        self.bricks = [placed(h) for h in self.hosts]

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    async def claim(self) -> Pool:
        for brick in self.bricks:
            await self.backend.claim(brick.host, brick.device, "i")
        self.slept.clear()
        return self

    async def create(self) -> None:
        await asyncio.gather(*(self.backend.create(b.host, [b]) for b in self.bricks))
        await asyncio.gather(*(self.backend.mount_at_boot(b.host, [b]) for b in self.bricks))

    async def destroy(self) -> None:
        await asyncio.gather(*(self.backend.destroy(b.host, [b]) for b in self.bricks))

    async def run(self, *argv: str, timeout: float = 10.0) -> str:
        return (await self.runner.run(self.hosts[0], Script((Command(argv),), timeout)))[0].stdout


@pytest.fixture
async def pool() -> Pool:
    return await Pool().claim()


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


# --- faults -----------------------------------------------------------------------------------


async def test_an_error_strikes_the_nth_match_and_has_no_effect(pool: Pool) -> None:
    fault = pool.world.inject(Fault("h1", "mkdir *", Kind.ERROR, nth=2, status=9, stderr="broken disk"))
    await pool.run("mkdir", "/one")
    with pytest.raises(CommandFailed, match="broken disk") as caught:
        await pool.run("mkdir", "/two")
    assert caught.value.status == 9
    await pool.run("mkdir", "/three")
    assert [pool.machines[0].is_directory(path) for path in ("/one", "/two", "/three")] == [True, False, True]
    assert (fault.seen, fault.struck) == (3, 1)


async def test_a_fault_is_for_its_host_only() -> None:
    pool = await Pool(hosts=3).claim()
    pool.world.inject(Fault("h2", "csi_brick_format *", Kind.ERROR, stderr="broken disk"))
    ended = await asyncio.gather(*(pool.backend.create(b.host, [b]) for b in pool.bricks), return_exceptions=True)
    assert [type(end) for end in ended] == [type(None), CommandFailed, type(None)]


@pytest.mark.parametrize(("kind", "made"), [(Kind.DROP_BEFORE, False), (Kind.DROP_AFTER, True)])
async def test_a_connection_breaks_before_or_after_the_effect(pool: Pool, kind: Kind, made: bool) -> None:
    pool.world.inject(Fault("*", "mkdir *", kind))
    with pytest.raises(HostUnreachable):
        await pool.run("mkdir", "/one")
    assert pool.machines[0].is_directory("/one") is made
    assert await pool.run("echo", "again") == "again\n"


async def test_a_hang_lasts_until_the_timeout_and_has_no_effect(pool: Pool) -> None:
    pool.world.inject(Fault("*", "mkdir *", Kind.HANG))
    with pytest.raises(CommandTimeout) as caught:
        await pool.run("mkdir", "/one", timeout=33)
    assert caught.value.argv == ("mkdir", "/one")
    assert sum(pool.slept) == 33
    assert not pool.machines[0].is_directory("/one")


async def test_a_host_that_is_down_is_not_reached_until_it_is_up(pool: Pool) -> None:
    channel = await pool.runner.open(pool.hosts[0], ("cat",))
    pool.machines[0].shut_down()
    with pytest.raises(HostUnreachable):
        await pool.run("true")
    pool.machines[0].boot()
    await pool.run("true")
    with pytest.raises(HostUnreachable):
        await channel.write(b"x")
    with pytest.raises(HostUnreachable, match="no such host"):
        await pool.runner.run(host("nowhere"), Script(()))


async def test_hosts_hear_each_other_unless_cut_or_down() -> None:
    pool = Pool(hosts=2)
    a, b = pool.machines
    assert pool.world.reachable(a, b)
    pool.world.cut("h1", "h2")
    assert not pool.world.reachable(b, a)
    pool.world.heal()
    b.shut_down()
    assert not pool.world.reachable(a, b)


async def test_latency_is_per_round_trip_and_per_command() -> None:
    pool = await Pool(latency=Latency(round_trip=5, command=2)).claim()
    await pool.runner.run(pool.hosts[0], Script((Command(("true",)), Command(("true",)))))
    assert sum(pool.slept) == 9
    with pytest.raises(CommandTimeout):
        await pool.runner.run(pool.hosts[0], Script((Command(("true",)), Command(("true",))), timeout=3))


# --- our own crash ----------------------------------------------------------------------------


async def test_every_point_of_a_creation_can_be_the_last() -> None:
    pool = await Pool(hosts=3).claim()
    pool.world.revive()
    await pool.create()
    labels = list(pool.world.points)
    assert len(labels) == 3 * 2 * 8, labels
    assert labels.count("h2: before csi_brick_format") == labels.count("h2: after csi_brick_format") == 1
    ends = set()
    for point in range(len(labels)):
        pool = await Pool(hosts=3).claim()
        pool.world.arm(point)
        with pytest.raises(Crashed):
            await pool.create()
        assert len(pool.world.points) == point + 1
        ends.add(frozenset((m.name, path) for m in pool.machines for path in m.mounts))
        with pytest.raises(Crashed):
            await pool.run("true")
        pool.world.revive()
        with pytest.raises(Crashed):
            await pool.run("true")  # the runner of the life that is over
        backend = FileBackend(SimulatedRunner(pool.world), "i")
        for brick in pool.bricks:
            await backend.create(brick.host, [brick])
            assert (await backend.inspect(brick.host, [brick]))[0].identity == brick.identity
            await backend.destroy(brick.host, [brick])
        assert all(len(machine.mounts) == 1 for machine in pool.machines)
    assert len(ends) > 3


async def test_a_crash_is_no_exception_that_could_be_handled(pool: Pool) -> None:
    pool.world.arm(0)
    assert not issubclass(Crashed, Exception)
    with pytest.raises(Crashed):
        await pool.run("true")
    with pytest.raises(Crashed):
        pool.world.checkpoint("a commit")


async def test_one_that_waited_when_we_crashed_does_nothing_more() -> None:
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait() if seconds else await asyncio.sleep(0)

    pool = await Pool().claim()
    pool.world.sleep = sleep
    waiting: list[Awaitable[object]] = [
        asyncio.create_task(
            pool.runner.run(pool.hosts[0], Script((Command(("sleep", "1")), Command(("mkdir", "/a")))))
        ),
    ]
    await asyncio.sleep(0.01)
    pool.world.crashed = True
    pool.world.revive()
    gate.set()
    with pytest.raises(Crashed):
        await waiting[0]
    assert not pool.machines[0].is_directory("/a")


# --- the long-lived gluster -------------------------------------------------------------------


class Echo:
    """A glusterd that answers with what it was asked."""

    def answer(self, machine: Machine, words: list[str]) -> str:
        if words[0] == "wrong":
            raise ValueError("unrecognized word: wrong (position 0)")
        return f"<cliOutput><opRet>0</opRet>{' '.join(words)}</cliOutput>\n"

    def end_bricks(self, machine: Machine, volume: str) -> int:
        return len([machine.kill(pid) for pid in tuple(machine.processes)])

    def booted(self, machine: Machine) -> None:
        machine.spawn("glusterd", ("glusterd",))


END = b"</cliOutput>"


async def test_gluster_answers_line_by_line(pool: Pool) -> None:
    pool.world.glusterd = Echo()
    channel = await pool.runner.open(pool.hosts[0], ("gluster", "--mode=script", "--xml"))
    await channel.write(b"volume info v1\nvolume st")
    first = (await channel.read_until(END, 1)).decode()
    assert first.startswith("Welcome to gluster prompt")
    assert first.endswith("volume info v1</cliOutput>")
    await channel.write(b"atus\n")
    assert b"volume status" in await channel.read_until(END, 1)
    await channel.write(b"wrong\n")
    assert await channel.read_until(b")\n", 1) == b"\nunrecognized word: wrong (position 0)\n"
    with pytest.raises(CommandTimeout):
        await channel.read_until(END, 0.01)
    await channel.close()
    with pytest.raises(HostUnreachable):
        await channel.read_until(END, 1)


async def test_gluster_alone_ends_with_a_status(pool: Pool) -> None:
    with pytest.raises(CommandFailed):
        await pool.run("gluster", "--mode=script", "--xml", "volume", "info")
    pool.world.glusterd = Echo()
    assert "volume info" in await pool.run("gluster", "--mode=script", "--xml", "volume", "info")
    with pytest.raises(CommandFailed):
        await pool.run("gluster", "--mode=script", "--xml", "wrong")


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Kind.HANG, CommandTimeout), (Kind.DROP_BEFORE, HostUnreachable), (Kind.DROP_AFTER, HostUnreachable)],
)
async def test_a_line_of_gluster_can_be_struck(pool: Pool, kind: Kind, error: type[Exception]) -> None:
    pool.world.glusterd = Echo()
    channel = await pool.runner.open(pool.hosts[0], ("gluster", "--mode=script", "--xml"))
    pool.world.inject(Fault("*", "gluster volume start*", kind))
    await channel.write(b"volume start v1\n")
    with pytest.raises(error):
        await channel.read_until(END, 0.01)


async def test_an_error_of_gluster_is_a_document(pool: Pool) -> None:
    pool.world.glusterd = Echo()
    channel = await pool.runner.open(pool.hosts[0], ("gluster", "--mode=script", "--xml"))
    pool.world.inject(Fault("*", "gluster volume start*", Kind.ERROR, status=30800, stderr="no luck"))
    await channel.write(b"volume start v1\n")
    answer = await channel.read_until(END, 1)
    assert b"<opRet>-1</opRet>" in answer
    assert b"<opErrno>30800</opErrno>" in answer
    assert b"no luck" in answer


async def test_glusterd_starts_with_its_host_and_its_bricks_can_be_ended(pool: Pool) -> None:
    pool.world.glusterd = Echo()
    pool.machines[0].reboot()
    assert [process.name for process in pool.machines[0].processes.values()] == ["glusterd"]
    await pool.run("csi_end_bricks", "v1")
    assert pool.machines[0].processes == {}


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

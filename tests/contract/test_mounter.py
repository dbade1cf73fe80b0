"""What every Mounter promises: in memory, on this machine with tmpfs, and with real GlusterFS clients."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from csi.core.errors import MountFailed, Unavailable
from csi.mountports import MountSource
from csi.mounts import mountinfo
from csi.mounts.simulated import Health
from csi.service.publish import Publish, Publisher, Stage
from tests.contract.mount_worlds import (
    OTHER,
    VOLUME,
    DaemonWorld,
    GlusterWorld,
    RealWorld,
    SimulatedWorld,
    World,
    gluster_volume,
)
from tests.lab.pool import Lab
from tests.mounts_daemon import MountsDaemon

LAB = pytest.param("glusterfs", marks=pytest.mark.lab)
DAEMON = pytest.param("daemon", marks=pytest.mark.lab)
FLAGS = ("nosuid", "nodev", "noexec", "noatime", "nodiratime")


@pytest.fixture(scope="module")
def volume(lab: Lab) -> Iterator[Lab]:
    with gluster_volume(lab) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MountsDaemon]:
    daemon = MountsDaemon(tmp_path_factory.mktemp("daemon"))
    try:
        daemon.start()
        yield daemon
        assert daemon.zombies() == []
    finally:
        daemon.remove()


def make(kind: str, request: pytest.FixtureRequest, directory: Path) -> SimulatedWorld | RealWorld | GlusterWorld:
    match kind:
        case "simulated":
            return SimulatedWorld()
        case "tmpfs":
            return RealWorld(directory)
        case "daemon":
            return DaemonWorld(request.getfixturevalue("volume"), request.getfixturevalue("daemon"))
        case _:
            return GlusterWorld(directory, request.getfixturevalue("volume"))


@pytest.fixture(params=["simulated", "tmpfs", LAB, DAEMON])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = make(request.param, request, tmp_path)
    yield world
    await world.close()


@pytest.fixture(params=["simulated", LAB, DAEMON])
async def clients(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SimulatedWorld | GlusterWorld]:
    """Worlds whose mounts have a client that can fall ill."""
    world = cast("SimulatedWorld | GlusterWorld", make(request.param, request, tmp_path))
    yield world
    await world.close()


@pytest.fixture(params=["glusterfs", "daemon"])
async def gluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GlusterWorld]:
    world = cast("GlusterWorld", make(request.param, request, tmp_path))
    yield world
    await world.close()


@pytest.fixture
async def direct(volume: Lab, tmp_path: Path) -> AsyncIterator[GlusterWorld]:
    world = GlusterWorld(tmp_path, volume)
    yield world
    await world.close()


async def gone(world: SimulatedWorld | GlusterWorld) -> None:
    """The clients end a moment later where nobody waits for them: the daemon notices by a connection that closes."""
    deadline = time.monotonic() + 5
    while world.clients() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert world.clients() == 0


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


# --- clients ----------------------------------------------------------------------------------


async def test_a_client_lives_as_long_as_its_last_mount(clients: SimulatedWorld | GlusterWorld) -> None:
    node, source, target = clients.mounter, f"{clients.root}/s", f"{clients.root}/t"
    await clients.start(source)
    state = await node.inspect(source)
    assert state is not None
    assert (state.source, state.fstype) == (f"{clients.source.servers[0]}:/{VOLUME}", "fuse.glusterfs")
    await node.make_directory(target)
    await node.bind(source, target, [])
    await node.unmount(source)
    assert clients.clients() == 1
    await node.unmount(target)
    await gone(clients)  # only an unmount where it was started waits for the client


async def test_the_same_mount_again_is_fine(clients: SimulatedWorld | GlusterWorld) -> None:
    path = f"{clients.root}/s"
    await clients.start(path)
    first = await clients.mounter.inspect(path)
    await clients.mounter.mount(clients.source, path)
    with pytest.raises(MountFailed, match="is mounted there already"):
        await clients.mounter.mount(MountSource(clients.source.servers, OTHER), path)
    again = await clients.mounter.inspect(path)
    assert first is not None
    assert again is not None
    assert (again.device, again.alive) == (first.device, True)
    assert clients.clients() == 1
    await clients.mounter.unmount(path)
    assert clients.clients() == 0


async def test_a_bind_over_a_dead_mount(clients: SimulatedWorld | GlusterWorld) -> None:
    node, target = clients.mounter, f"{clients.root}/t"
    await clients.start(f"{clients.root}/s")
    await node.make_directory(target)
    await node.bind(f"{clients.root}/s", target, ["ro"])
    clients.sicken(f"{clients.root}/s", Health.DEAD)
    await node.unmount(f"{clients.root}/s")
    await clients.start(f"{clients.root}/s")
    await node.bind(f"{clients.root}/s", target, ["ro", "nosuid"])
    state = await node.inspect(target)
    assert state is not None
    assert state.alive
    assert {"ro", "nosuid"} <= set(state.options)
    await node.unmount(target)
    assert await node.inspect(target) is None
    await node.unmount(f"{clients.root}/s")
    assert clients.clients() == 0


async def test_unknown_volume(clients: SimulatedWorld | GlusterWorld) -> None:
    path = f"{clients.root}/s"
    await clients.mounter.make_directory(path)
    with pytest.raises(MountFailed, match="the servers know no volume nope"):
        await clients.mounter.mount(MountSource(clients.source.servers, "nope"), path)
    assert await clients.mounter.inspect(path) is None
    assert clients.clients() == 0


@pytest.mark.parametrize("health", [Health.DEAD, Health.SILENT])
async def test_a_sick_client(clients: SimulatedWorld | GlusterWorld, health: Health) -> None:
    path = f"{clients.root}/s"
    await clients.start(path)
    clients.sicken(path, health)
    state = await clients.mounter.inspect(path)
    assert state is not None
    assert (state.alive, state.dead, state.usage) == (False, health is Health.DEAD, None)
    assert state.reason
    await clients.mounter.unmount(path)
    assert await clients.mounter.inspect(path) is None
    assert clients.clients() == 0
    await clients.mounter.remove_directory(path)


async def test_bricks_that_are_away_come_back(clients: SimulatedWorld | GlusterWorld) -> None:
    path = f"{clients.root}/s"
    await clients.start(path)
    clients.sicken(path, Health.AWAY)
    state = await clients.mounter.inspect(path)
    assert state is not None
    assert (state.alive, state.dead) == (False, False)
    clients.sicken(path, Health.WELL)
    deadline = time.monotonic() + 20
    while (state := await clients.mounter.inspect(path)) is not None and not state.alive:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    await clients.mounter.unmount(path)
    assert clients.clients() == 0


# --- the real one only ------------------------------------------------------------------------


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


@pytest.mark.lab
async def test_what_the_client_refuses_is_said(direct: GlusterWorld) -> None:
    path, servers = f"{direct.root}/s", direct.source.servers
    os.mkdir(path)
    for flag, says in (("--fuse-mountopts=bogus", "nothing is mounted there"), ("--bogus", "unrecognized option")):
        with pytest.raises(MountFailed, match=says):
            await direct.node.mount(MountSource(servers, VOLUME, flags=(flag,)), path)
        assert await direct.node.inspect(path) is None
        assert direct.clients() == 0


@pytest.mark.lab
async def test_the_daemon_takes_no_arguments_that_are_no_flags(volume: Lab, daemon: MountsDaemon) -> None:
    world = DaemonWorld(volume, daemon)
    try:
        for source, target, says in (
            (MountSource(("a",), VOLUME, flags=("--log-file=/etc/x",)), f"{world.root}/s", "log-file"),
            (MountSource(("a",), "../x"), f"{world.root}/s", "volume"),
            (world.source, str(daemon.directory), "mounts.roots"),
        ):
            with pytest.raises(MountFailed, match=f"the mounts daemon refused the request: .*{says}"):
                await world.node.mount(source, target)
        os.symlink(daemon.directory, f"{world.root}/way-out")
        with pytest.raises(MountFailed, match=r"mounts\.roots"):
            await world.node.mount(world.source, f"{world.root}/way-out/clients")
        assert world.clients() == 0
    finally:
        await world.close()


@pytest.mark.lab
async def test_the_client_that_does_not_come_up_says_why(gluster: GlusterWorld) -> None:
    path = f"{gluster.root}/s"
    os.mkdir(path)
    for source, says in (
        (MountSource((gluster.lab.gateway,), VOLUME), "no server answered on glusterd's port 24007"),
        (MountSource(("nosuch.invalid",), VOLUME), "DNS resolution failed on host nosuch.invalid"),
    ):
        with pytest.raises(MountFailed) as caught:
            await gluster.node.mount(source, path)
        assert says in str(caught.value)
        assert f"(log: {gluster.log}/" in str(caught.value)
        assert await gluster.node.inspect(path) is None
        assert gluster.clients() == 0


@pytest.mark.lab
async def test_the_client_outlives_this_program_and_holds_nothing_of_it(direct: GlusterWorld) -> None:
    path = f"{direct.root}/s"
    code = (
        "import asyncio, sys\nfrom csi.mounts.detached import DetachedClients\nfrom csi.mounts.probe import Probes\n"
        "from csi.mountports import MountSource\n"
        "clients = DetachedClients(sys.argv[1], Probes(15))\n"
        "asyncio.run(clients.start(MountSource((sys.argv[2],), sys.argv[3]), sys.argv[4]))"
    )
    os.mkdir(path)
    # The pipes end when nobody holds them any more: the client must not.
    arguments = [sys.executable, "-c", code, str(direct.log), direct.source.servers[0], VOLUME, path]
    subprocess.run(arguments, check=True, capture_output=True, timeout=30, start_new_session=True)
    (pid,) = direct.pids()
    assert os.getsid(pid) == pid
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    state = await direct.node.inspect(path)
    assert state is not None
    assert state.alive
    await direct.node.unmount(path)
    assert direct.clients() == 0
    assert not list(direct.log.glob("*.pid"))


@pytest.mark.lab
async def test_a_cancelled_mount_leaves_nothing(gluster: GlusterWorld) -> None:
    path = f"{gluster.root}/s"
    os.mkdir(path)
    # Through all that a client does before it is up: it forks a daemon, and that one a child that mounts.
    for delay in [number * 0.0015 for number in range(30)]:
        mounting = asyncio.create_task(gluster.node.mount(gluster.source, path))
        await asyncio.sleep(delay)
        mounting.cancel()
        try:
            await mounting
        except asyncio.CancelledError:
            await gone(gluster)
            assert await gluster.node.inspect(path) is None
        else:
            await gluster.node.unmount(path)


@pytest.mark.lab
async def test_publishing_with_real_clients(gluster: GlusterWorld) -> None:
    """From stage to unstage, with a client that dies in between and a pod that holds on to its volume."""
    root, source = gluster.root, gluster.source
    publisher = Publisher(gluster.node)
    stage = Stage("1", source, f"{root}/staging")
    writer = Publish("1", source, stage.staging, f"{root}/pods/1")
    reader = Publish("1", source, stage.staging, f"{root}/pods/2", options=("ro",))
    os.mkdir(stage.staging)
    for _ in range(10):
        await publisher.stage(stage)
        await publisher.publish(writer)
        await publisher.publish(reader)
    assert gluster.clients() == 1
    (Path(writer.target) / "precious").write_text("data")
    assert (Path(reader.target) / "precious").read_text() == "data"
    with pytest.raises(OSError, match="Read-only"):
        (Path(reader.target) / "more").write_text("x")

    held = os.open(reader.target, os.O_RDONLY)
    gluster.sicken(stage.staging, Health.DEAD)
    assert (await publisher.stats("1", writer.target)).abnormal
    await publisher.publish(writer)
    os.close(held)
    assert gluster.clients() == 1
    assert (Path(writer.target) / "precious").read_text() == "data"
    with pytest.raises(OSError, match="Read-only"):
        (Path(reader.target) / "more").write_text("x")

    await publisher.unpublish("1", reader.target)
    await publisher.unpublish("1", writer.target)
    assert not os.path.exists(writer.target)
    assert (Path(stage.staging) / "precious").read_text() == "data"
    await publisher.unstage("1", stage.staging)
    assert gluster.clients() == 0
    assert os.listdir(stage.staging) == []


@pytest.mark.lab
async def test_a_silent_volume_is_left_alone(gluster: GlusterWorld) -> None:
    publisher = Publisher(gluster.node)
    stage = Stage("1", gluster.source, f"{gluster.root}/staging")
    os.mkdir(stage.staging)
    await publisher.stage(stage)
    gluster.sicken(stage.staging, Health.SILENT)
    with pytest.raises(Unavailable, match="left as it is"):
        await publisher.stage(stage)
    (pid,) = gluster.pids()
    os.kill(pid, 18)
    gluster.probes.timeout = 15.0
    await publisher.stage(stage)
    assert gluster.pids() == [pid]
    await publisher.unstage("1", stage.staging)
    assert gluster.clients() == 0


@pytest.mark.lab
async def test_the_daemon_finds_its_clients_again(volume: Lab, daemon: MountsDaemon) -> None:
    world = DaemonWorld(volume, daemon)
    path, other = f"{world.root}/s", f"{world.root}/o"
    before = set(daemon.log_dir.iterdir())  # of tests that killed their clients
    try:
        await world.start(path)
        world.write(path, "precious")
        (client,) = world.pids()
        daemon.crash()
        assert world.pids() == [client]
        assert "precious" in world.names(path)
        await world.mounter.mount(world.source, path)  # found by what the kernel tells
        assert world.pids() == [client]
        await world.start(other)
        assert world.clients() == 2
        daemon.crash()
        for mounted in (path, other):
            await world.mounter.unmount(mounted)
        assert world.clients() == 0
        assert {path.suffix for path in set(daemon.log_dir.iterdir()) - before} <= {".log"}
    finally:
        await world.close()


@pytest.mark.lab
async def test_a_container_with_propagation_sees_the_new_mount_and_only_its_own(
    volume: Lab, daemon: MountsDaemon
) -> None:
    """Two containers, one that may write and one that may not, whose client dies."""
    world = DaemonWorld(volume, daemon)
    publisher = Publisher(world.node)
    stage = Stage("1", world.source, f"{world.root}/staging")
    os.mkdir(stage.staging)
    containers: list[subprocess.Popen[str]] = []
    try:
        await publisher.stage(stage)
        targets = []
        for name, options in (("writer", ()), ("reader", ("ro",))):
            targets.append(Publish("1", world.source, stage.staging, f"{world.root}/{name}", options=options))
            await publisher.publish(targets[-1])
            containers.append(container(targets[-1].target, f"{world.directory}/{name}"))
        world.sicken(stage.staging, Health.DEAD)
        assert says(containers[0], "touch file") == "failed"
        await publisher.stage(stage)
        assert says(containers[0], "touch file") == "done"
        assert says(containers[1], "ls file") == "done"
        assert says(containers[1], "touch more") == "failed"
        for target in targets:
            await publisher.publish(target)
            await publisher.unpublish("1", target.target)
    finally:
        for ended in containers:
            assert ended.stdin is not None
            ended.stdin.close()
            ended.wait(10)
            assert ended.stdout is not None
            ended.stdout.close()
        await publisher.unstage("1", stage.staging)
        await world.close()
    assert world.clients() == 0


def container(volume: str, rootfs: str) -> subprocess.Popen[str]:
    """A mount namespace in which ``volume`` is bound at ``rootfs`` with HostToContainer propagation; a small shell."""
    os.makedirs(rootfs)
    script = (
        f"mount --bind {volume} {rootfs} && mount --make-rslave {rootfs} && echo ready\n"
        f"while read -r line; do if (cd {rootfs} && $line) >/dev/null 2>&1; then echo done; else echo failed; fi; done"
    )
    started = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def says(container: subprocess.Popen[str], command: str) -> str:
    assert container.stdin is not None
    assert container.stdout is not None
    container.stdin.write(command + "\n")
    container.stdin.flush()
    return container.stdout.readline().strip()

"""What every Mounter promises of the clients behind its mounts: when one starts, when it ends, and why none came up."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from csi.core.errors import MountFailed
from csi.mountports import MountSource
from tests.contract.mounts.worlds import OTHER, VOLUME, DaemonWorld, GlusterWorld, SimulatedWorld, gone
from tests.lab.pool import Lab
from tests.mounts_daemon import MountsDaemon


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


async def test_unknown_volume(clients: SimulatedWorld | GlusterWorld) -> None:
    path = f"{clients.root}/s"
    await clients.mounter.make_directory(path)
    with pytest.raises(MountFailed, match="the servers know no volume nope"):
        await clients.mounter.mount(MountSource(clients.source.servers, "nope"), path)
    assert await clients.mounter.inspect(path) is None
    assert clients.clients() == 0


# --- real ones only ---------------------------------------------------------------------------


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

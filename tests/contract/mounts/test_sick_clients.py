"""What every Mounter promises where a client dies, is silent or misses its bricks, or where its daemon ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from csi.core.errors import Unavailable
from csi.mounts.simulated import Health
from csi.service.publish import Publish, Publisher, Stage
from tests.contract.mounts.worlds import DaemonWorld, GlusterWorld, SimulatedWorld
from tests.lab.pool import Lab
from tests.mounts_daemon import MountsDaemon


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


# --- real ones only ---------------------------------------------------------------------------


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

"""Nodes for the contract of ``Mounter``: one in memory, this machine with tmpfs, this machine with the laboratory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from csi.mountports import Clients, Mounter, MountSource
from csi.mounts import mountinfo
from csi.mounts.detached import DetachedClients
from csi.mounts.glusterfs import GlusterMounter
from csi.mounts.probe import Probes
from csi.mounts.remote import RemoteClients
from csi.mounts.simulated import Health, SimulatedMounter
from tests.lab.pool import Lab
from tests.lab.system import wait_for
from tests.mounts_daemon import MountsDaemon

VOLUME = "contract"
OTHER = "other"


class World(Protocol):
    """``root`` is an empty directory; ``start`` mounts a live file system of its own."""

    mounter: Mounter
    root: str

    async def start(self, path: str) -> None: ...

    def write(self, path: str, name: str) -> None:
        """Put a file there; in what is mounted, if anything is."""

    def names(self, path: str) -> set[str]: ...

    @contextlib.contextmanager
    def busy(self, path: str) -> Iterator[None]: ...


class SimulatedWorld:
    def __init__(self) -> None:
        self.node = SimulatedMounter([VOLUME, OTHER])
        self.mounter: Mounter = self.node
        self.root = "/work"
        self.source = MountSource(("a", "b"), VOLUME)

    async def start(self, path: str) -> None:
        await self.node.make_directory(path)
        await self.node.mount(self.source, path)

    def write(self, path: str, name: str) -> None:
        if path in self.node.mounted:
            self.node.client(path).files.add(name)
        else:
            self.node.directories[path].add(name)

    def names(self, path: str) -> set[str]:
        return self.node.client(path).files if path in self.node.mounted else self.node.directories[path]

    @contextlib.contextmanager
    def busy(self, path: str) -> Iterator[None]:
        self.node.busy.add(path)
        yield
        self.node.busy.discard(path)

    def sicken(self, path: str, health: Health) -> None:
        self.node.client(path).health = health

    def clients(self) -> int:
        return self.node.clients

    async def close(self) -> None:
        await self.mounter.close()


def states(pid: int) -> set[str]:
    """Of all threads of a process, as /proc tells them."""
    found = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in found}


class RealWorld:
    """This machine, below a directory of the test's own."""

    def __init__(self, directory: Path, timeout: float = 15.0) -> None:
        self.directory = directory
        self.root = str(directory / "mnt")
        os.mkdir(self.root)
        self.log = directory / "log"
        self.probes = Probes(timeout)
        self.node = GlusterMounter(self._clients(), self.probes)
        self.mounter: Mounter = self.node

    def _clients(self) -> Clients:
        return DetachedClients(self.log, self.probes, mount_timeout=30)

    async def start(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "contract", path], check=True)

    def write(self, path: str, name: str) -> None:
        (Path(path) / name).write_text(name)

    def names(self, path: str) -> set[str]:
        return set(os.listdir(path))

    @contextlib.contextmanager
    def busy(self, path: str) -> Iterator[None]:
        held = os.open(path, os.O_RDONLY)
        yield
        os.close(held)

    async def close(self) -> None:
        await self.mounter.close()
        for entry in reversed(mountinfo.read()):
            if entry.path.startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", entry.path], check=False)


class GlusterWorld(RealWorld):
    """Clients of a real volume."""

    def __init__(self, directory: Path, lab: Lab) -> None:
        super().__init__(directory)
        self.lab = lab
        self.source = MountSource(tuple(host.address for host in lab.hosts), VOLUME)

    async def start(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        await self.node.mount(self.source, path)

    def pids(self) -> list[int]:
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and f"--log-file={self.log}/".encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found

    def clients(self) -> int:
        return len(self.pids())

    def sicken(self, path: str, health: Health) -> None:
        (pid,) = self.pids()
        match health:
            case Health.DEAD:
                os.kill(pid, 9)
                deadline = time.monotonic() + 5
                while self.pids() and time.monotonic() < deadline:
                    time.sleep(0.01)
            case Health.SILENT:
                self.probes.timeout = 1.0
                os.kill(pid, 19)
                # One of its threads has to take the signal up before the others hear of it.
                wait_for("the pause of the client", lambda: states(pid) == {"T"}, 5)
            case Health.AWAY:
                self.lab.run("host1", ["gluster", "--mode=script", "volume", "stop", VOLUME])
            case Health.WELL:
                self.lab.run("host1", ["gluster", "--mode=script", "volume", "start", VOLUME])

    async def close(self) -> None:
        await super().close()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):  # the one that was unmounted last may be ending
                os.kill(pid, 9)


class DaemonWorld(GlusterWorld):
    """The same by way of the daemon, whose mounts reach this namespace by propagation."""

    def __init__(self, lab: Lab, daemon: MountsDaemon) -> None:
        self.daemon = daemon
        super().__init__(Path(tempfile.mkdtemp(dir=daemon.root)), lab)
        self.log = daemon.log_dir

    def _clients(self) -> Clients:
        return RemoteClients(self.daemon.address, self.probes, timeout=30)


async def gone(world: SimulatedWorld | GlusterWorld) -> None:
    """The clients end a moment later where nobody waits for them: the daemon notices by a connection that closes."""
    deadline = time.monotonic() + 5
    while world.clients() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert world.clients() == 0


@contextlib.contextmanager
def gluster_volume(lab: Lab) -> Iterator[Lab]:
    """A started volume made by hand on the laboratory's first devices."""
    bricks = [f"{host.address}:{host.devices[0]}/{VOLUME}/brick" for host in lab.hosts]
    for host in lab.hosts:
        lab.run(host, ["mkdir", "-p", f"{host.devices[0]}/{VOLUME}/brick"])
    gluster = ["gluster", "--mode=script"]
    lab.run("host1", [*gluster, "volume", "create", VOLUME, "replica", str(len(bricks)), *bricks, "force"])
    lab.run("host1", [*gluster, "volume", "start", VOLUME])
    try:
        yield lab
    finally:
        lab.run("host1", [*gluster, "volume", "stop", VOLUME], check=False)
        lab.run("host1", [*gluster, "volume", "delete", VOLUME])
        for host in lab.hosts:
            lab.run(host, ["rm", "-rf", f"{host.devices[0]}/{VOLUME}"])

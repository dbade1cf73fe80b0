"""The pools on which the contract of ``ports.Gluster`` is tried, and how tests look at their hosts and hurt them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from csi.core import naming
from csi.core.command import Result, Script
from csi.core.errors import HostUnreachable
from csi.core.model import ClusterId, Host
from csi.hosts.simulated.filesystem import Directory
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Fault, Kind, World
from csi.hosts.ssh import SshRunner, SshSettings
from csi.ports import Channel, Runner
from tests.lab import Lab

BRICKS = "/srv/d0"

# A program in place of GlusterFS', whose daemons are all one: as a brick it fails once where it was asked to.
_WRAPPER = """#!/bin/bash
case " $* " in
    *" --brick-name "*) [ ! -e /run/fail-next-brick ] || { rm /run/fail-next-brick; exit 1; } ;;
esac
exec -a "$0" /run/glusterfsd.real "$@"
"""
_WRAP = """set -e
touch /run/glusterfsd.real
mount --bind /usr/sbin/glusterfsd /run/glusterfsd.real
cat >/run/glusterfsd
chmod 755 /run/glusterfsd
mount --bind /run/glusterfsd /usr/sbin/glusterfsd
"""
CLUSTER = ClusterId("c" * 32)


class PoolUnderTest(Protocol):
    """Three hosts that are peers, with a file system of its own at ``BRICKS`` on each; numbered from 0."""

    hosts: tuple[Host, ...]

    @property
    def runner(self) -> Runner: ...

    def make_directory(self, host: int, path: str) -> None: ...

    def remove_directory(self, host: int, path: str) -> None:
        """With all that is in it."""

    def marks(self, host: int, path: str) -> set[str]:
        """Names of the trusted attributes."""

    def brick_processes(self, host: int, volume: str) -> list[int]: ...

    def kill_process(self, host: int, pid: int) -> None: ...

    def fail_next_brick(self, host: int) -> None:
        """The next brick that glusterd starts there does not come up, which glusterd sees."""

    def volumes(self) -> set[str]:
        """As glusterd itself keeps them on the last host."""

    def stop_glusterd(self, host: int) -> None:
        """Its brick processes go on."""

    def start_glusterd(self, host: int) -> None: ...

    def power_off(self, host: int) -> None: ...

    def power_on(self, host: int) -> None: ...

    async def close(self) -> None:
        """Remove every volume, then close the runner."""


class SimulatedPool:
    def __init__(self) -> None:
        self.world = World()
        self.glusterd = self.world.glusterd = SimulatedGlusterd(self.world)
        self._machines = [self.world.add(f"10.0.0.{n}", devices=[BRICKS]) for n in (1, 2, 3)]
        for machine in self._machines[1:]:
            self.glusterd.answer(self._machines[0], ["peer", "probe", machine.name])
        self.hosts = tuple(Host(naming.host_id(m.name), CLUSTER, m.name, m.name, 1) for m in self._machines)
        self.runner: Runner = SimulatedRunner(self.world)

    def make_directory(self, host: int, path: str) -> None:
        self._machines[host].make_directory(path, parents=True)

    def remove_directory(self, host: int, path: str) -> None:
        machine = self._machines[host]
        node = machine.find(path)
        assert isinstance(node, Directory)
        for name in list(node.children):
            self.remove_directory(host, f"{path}/{name}")
        machine.remove_directory(path)

    def marks(self, host: int, path: str) -> set[str]:
        return {name for name in self._machines[host].xattrs(path) if name.startswith("trusted.")}

    def brick_processes(self, host: int, volume: str) -> list[int]:
        return [
            p.pid
            for p in self._machines[host].processes.values()
            if any(word.startswith(f"{volume}.") for word in p.argv)
        ]

    def kill_process(self, host: int, pid: int) -> None:
        assert self._machines[host].kill(pid)

    def fail_next_brick(self, host: int) -> None:
        """Without what the real one has started by then."""
        where = self.hosts[host].storage if host else "localhost"
        said = f"Commit failed on {where}. Please check log file for details."
        self.world.faults.append(Fault("*", "*volume start*", Kind.ERROR, status=30800, stderr=said))

    def volumes(self) -> set[str]:
        document = self.glusterd.answer(self._machines[2], ["volume", "list"])
        return {line.split("<")[0] for line in document.split("<volume>")[1:]}

    def stop_glusterd(self, host: int) -> None:
        self.glusterd.stop(self._machines[host])

    def start_glusterd(self, host: int) -> None:
        self.glusterd.start(self._machines[host])

    def power_off(self, host: int) -> None:
        self._machines[host].shut_down()

    def power_on(self, host: int) -> None:
        self._machines[host].boot()

    async def close(self) -> None:
        await self.runner.close()


class LaboratoryPool:
    """The laboratory, through ssh."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.hosts = tuple(
            Host(naming.host_id(h.address), CLUSTER, h.address, h.address, h.zone) for h in lab.hosts[:3]
        )
        self.runner: Runner = SshRunner(
            SshSettings(port=lab.hosts[0].ssh_port, key_file=str(lab.key_file), known_hosts=str(lab.known_hosts))
        )
        self._made: set[tuple[int, str]] = set()
        self._wrapped: set[int] = set()  # hosts whose glusterfsd is a script

    def _run(self, host: int, *argv: str, check: bool = True) -> str:
        return self.lab.run(self.lab.hosts[host], argv, check).stdout

    def make_directory(self, host: int, path: str) -> None:
        self._run(host, "mkdir", "-p", path)
        self._made.add((host, path))

    def remove_directory(self, host: int, path: str) -> None:
        self._run(host, "rm", "-rf", path)

    def marks(self, host: int, path: str) -> set[str]:
        said = self._run(host, "getfattr", "-d", "-m", "^trusted", "--absolute-names", path)
        return {line.partition("=")[0] for line in said.splitlines() if line.startswith("trusted.")}

    def brick_processes(self, host: int, volume: str) -> list[int]:
        said = self._run(host, "pgrep", "-x", "-f", f".*--volfile-id {volume}[.].*", check=False)
        return [int(line) for line in said.split()]

    def kill_process(self, host: int, pid: int) -> None:
        self._run(host, "kill", "-9", str(pid))

    def fail_next_brick(self, host: int) -> None:
        machine = self.lab.hosts[host]
        if host not in self._wrapped:
            self.lab.run(machine, ["sh", "-c", _WRAP], input=_WRAPPER)
            self._wrapped.add(host)
        self._run(host, "touch", "/run/fail-next-brick")

    def volumes(self) -> set[str]:
        return set(self._run(2, "ls", "/var/lib/glusterd/vols").split())

    def stop_glusterd(self, host: int) -> None:
        self._run(host, "sh", "-c", "kill -9 $(cat /run/glusterd.pid)")

    def start_glusterd(self, host: int) -> None:
        self.lab.restore()

    def power_off(self, host: int) -> None:
        self.lab.kill(self.lab.hosts[host])

    def power_on(self, host: int) -> None:
        self.lab.start(self.lab.hosts[host])
        self.lab.settle()

    async def close(self) -> None:
        await self.runner.close()
        self.lab.restore()
        for host in self._wrapped:
            # Lazily: daemons run from there.
            self._run(host, "umount", "--lazy", "/usr/sbin/glusterfsd", "/run/glusterfsd.real")
            self._run(host, "rm", "-f", "/run/glusterfsd", "/run/glusterfsd.real", "/run/fail-next-brick")
        for volume in self.volumes():
            self._run(2, "gluster", "--mode=script", "volume", "stop", volume, "force", check=False)
            self._run(2, "gluster", "--mode=script", "volume", "delete", volume)
        for host, path in self._made:
            # The first directory below the file system: what was made on the way to the brick goes too.
            top = "/".join(path.split("/")[:4]) if path.startswith(f"{BRICKS}/") else path
            self._run(host, "rm", "-rf", top)


class Unlucky:
    """A runner whose gluster sessions break, once, at a command that begins with ``at``: before or after its effect."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.at = b""
        self.after = False
        self.broken = 0

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        return await self._inner.run(host, script)

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        return _UnluckyChannel(await self._inner.open(host, argv), self, host)

    async def close(self) -> None:
        await self._inner.close()


class _UnluckyChannel:
    def __init__(self, inner: Channel, bad_luck: Unlucky, host: Host) -> None:
        self._inner = inner
        self._bad_luck = bad_luck
        self._host = host
        self._strikes = False

    async def write(self, data: bytes) -> None:
        self._strikes = bool(self._bad_luck.at) and data.startswith(self._bad_luck.at)
        if not self._strikes:
            return await self._inner.write(data)
        self._bad_luck.at = b""
        self._bad_luck.broken += 1
        if self._bad_luck.after:
            await self._inner.write(data)
            await self._inner.read_until(b"</cliOutput>\n", 30)
        return None

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        if self._strikes:
            raise HostUnreachable(self._host.manage, "the connection was lost")
        return await self._inner.read_until(end, timeout, limit)

    async def close(self) -> None:
        await self._inner.close()

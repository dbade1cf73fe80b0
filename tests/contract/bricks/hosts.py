"""The hosts on which the contract of brick backends is tried, and how tests look at them and tamper with them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from typing import Protocol

from csi.core import naming
from csi.core.model import ClusterId, Host
from csi.hosts.local import LocalRunner
from csi.hosts.simulated.filesystem import Directory
from csi.hosts.simulated.machine import Process
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.hosts.ssh import SshRunner, SshSettings
from csi.ports import Runner
from tests.contract.private_host import PrivateHost
from tests.lab import Lab
from tests.lab.system import SLOWNESS

POINT = naming.BRICK_ROOT


def a_host(manage: str) -> Host:
    return Host(naming.host_id(manage), ClusterId("c" * 32), manage, manage, 1)


class HostUnderTest(Protocol):
    """``devices`` are two directories with disks of their own, ``block`` is a block device, ``on_root`` has no disk."""

    runner: Runner
    host: Host
    devices: tuple[str, str]
    block: str
    on_root: str
    fstab: str

    def read(self, path: str) -> str: ...

    def write(self, path: str, text: str) -> None:
        """The file's whole text, in place."""

    def remove(self, path: str) -> None: ...

    def exists(self, path: str) -> bool: ...

    def owner(self, path: str) -> tuple[int, int]:
        """Mode and group."""

    def size(self, mount: str) -> int:
        """Bytes of the file system that is mounted there, as ``df`` shows them."""

    def traces(self) -> frozenset[str]:
        """Files on the devices, mounts and directories for bricks, lines of fstab."""

    def unmount(self, path: str) -> None: ...

    def hold(self, directory: str) -> Callable[[], None]:
        """A process whose working directory this is; call the answer to end it."""

    def reboot(self) -> None:
        """Everything is unmounted, and what fstab says is mounted again."""

    async def close(self) -> None: ...


class SimulatedHost:
    def __init__(self) -> None:
        self.devices = ("/srv/d0", "/srv/d1")
        self.block, self.on_root, self.fstab = "/dev/disk0", "/srv/plain", "/etc/fstab"
        self.world = World()
        self.machine = self.world.add("h1", devices=self.devices, size=20 << 30)
        self.machine.make_directory(self.on_root)
        self.runner: Runner = SimulatedRunner(self.world)
        self.host = a_host("h1")

    def read(self, path: str) -> str:
        return self.machine.read(path)

    def write(self, path: str, text: str) -> None:
        self.machine.write(path, text)

    def remove(self, path: str) -> None:
        self.machine.unlink(path)

    def exists(self, path: str) -> bool:
        return self.machine.find(path) is not None

    def owner(self, path: str) -> tuple[int, int]:
        node = self.machine.find(path)
        assert node is not None
        return node.mode, node.gid

    def size(self, mount: str) -> int:
        return self.machine.mounts[mount].filesystem.capacity

    def traces(self) -> frozenset[str]:
        found = set()
        for device in self.devices:
            node = self.machine.find(device)
            assert isinstance(node, Directory)
            found |= {f"file {device}/{name}" for name in node.children}
        found |= {f"mount {path}" for path in self.machine.mounts if path.startswith(POINT)}
        root = self.machine.find(POINT)
        for device, node in root.children.items() if isinstance(root, Directory) else ():
            assert isinstance(node, Directory)
            found |= {f"point {device}/{name}" for name in node.children}
        return frozenset(found | {f"fstab {line}" for line in self.read(self.fstab).splitlines()})

    def unmount(self, path: str) -> None:
        self.machine.unmount(path)

    def hold(self, directory: str) -> Callable[[], None]:
        process: Process = self.machine.spawn("holder", ("holder",), directory)

        def let_go() -> None:
            self.machine.kill(process.pid)

        return let_go

    def reboot(self) -> None:
        self.machine.reboot()

    async def close(self) -> None:
        await self.runner.close()


_TRACES = """
for d in "$2" "$3"; do find "$d" -mindepth 1 -maxdepth 1 -name '*.*' -printf "file $d/%f\\n"; done
sed -n "s#^[0-9]* [0-9]* [0-9:]* [^ ]* \\($4/[^ ]*\\) .*#mount \\1#p" /proc/self/mountinfo
[ -d "$4" ] && find "$4" -mindepth 2 -maxdepth 2 -printf 'point %P\\n'
sed 's/^/fstab /' "$1"
"""


class RealHost:
    """``prefix`` makes a command run on the host, past the runner."""

    block = "/dev/loop0"

    def __init__(
        self, runner: Runner, host: Host, prefix: Sequence[str], devices: tuple[str, str], *, on_root: str, fstab: str
    ) -> None:
        self.runner, self.host, self.devices = runner, host, devices
        self.on_root, self.fstab = on_root, fstab
        self._prefix = tuple(prefix)

    def sh(self, script: str, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._prefix, "sh", "-c", script, "sh", *words],
            capture_output=True,
            check=False,
            text=True,
            timeout=30 * SLOWNESS,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout if check else str(done.returncode)

    def read(self, path: str) -> str:
        return self.sh('cat -- "$1"', path)

    def write(self, path: str, text: str) -> None:
        self.sh('printf %s "$2" >"$1"', path, text)

    def remove(self, path: str) -> None:
        self.sh('rm -- "$1"', path)

    def exists(self, path: str) -> bool:
        return self.sh('[ -e "$1" ]', path, check=False) == "0"

    def owner(self, path: str) -> tuple[int, int]:
        mode, gid = self.sh('stat -c "%a %g" -- "$1"', path).split()
        return int(mode, 8), int(gid)

    def size(self, mount: str) -> int:
        blocks, size = self.sh('stat -f -c "%b %S" -- "$1"', mount).split()
        return int(blocks) * int(size)

    def traces(self) -> frozenset[str]:
        return frozenset(self.sh(_TRACES, self.fstab, *self.devices, POINT).splitlines())

    def unmount(self, path: str) -> None:
        self.sh('umount -- "$1"', path)

    def hold(self, directory: str) -> Callable[[], None]:
        words = [*self._prefix, "sh", "-c", 'cd "$1" && echo held && exec cat', "sh", directory]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        def release() -> None:
            process.communicate(timeout=10 * SLOWNESS)  # its input ends, and so does it

        return release

    def reboot(self) -> None:
        self.sh(
            f"grep -o ' {POINT}/[^ ]* ' /proc/self/mountinfo | xargs -r umount; mount --fstab \"$1\" -a", self.fstab
        )

    async def close(self) -> None:
        await self.runner.close()


class NamespaceHost(RealHost):
    """A private mount namespace."""

    def __init__(self) -> None:
        self._place = PrivateHost()
        place = self._place.directory
        prefix = self._place.prefix
        devices = (str(place / "disk0"), str(place / "disk1"))
        super().__init__(
            LocalRunner(lambda _: prefix),
            a_host("here"),
            prefix,
            devices,
            on_root=str(place / "plain"),
            fstab=str(place / "fstab"),
        )

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._place.close)


class LaboratoryHost(RealHost):
    """A host of the laboratory, through ssh."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        machine = lab.hosts[0]
        settings = SshSettings(port=machine.ssh_port, key_file=str(lab.key_file), known_hosts=str(lab.known_hosts))
        prefix = ["nsenter", "--target", str(lab.init_pid(machine)), "--mount", "--net", "--pid", "--"]
        devices = (machine.devices[0], machine.devices[1])
        super().__init__(
            SshRunner(settings), a_host(machine.address), prefix, devices, on_root="/opt", fstab="/etc/fstab"
        )

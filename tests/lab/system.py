"""What the laboratory asks of the machine it runs on: commands, locks, processes, loop devices, mounts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = (
    *("ip", "nsenter", "unshare", "mount", "umount", "losetup", "mkfs.xfs", "chattr", "pivot_root", "bash"),
    *("glusterd", "gluster", "glusterfs", "sshd", "ssh-keygen"),
)


# In the virtual machine (vm.py) everything takes longer.
SLOWNESS = 8 if os.environ.get("LAB_GUEST") == "1" else 1


class LabError(Exception):
    """The laboratory can't do what was asked; the message says why and what to do about it."""


def call(*argv: str, check: bool = True, timeout: float = 30, stdin: str | None = None) -> str:
    """Run a command of this machine; its output. A failure names the command and what it said."""
    try:
        # DEVNULL: a lab command must never wait for somebody's terminal.
        done = subprocess.run(
            argv,
            text=True,
            capture_output=True,
            timeout=timeout * SLOWNESS,
            check=False,
            env=environment(),
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        )
    except FileNotFoundError as missing:
        raise LabError(f"{argv[0]} is not installed: the laboratory needs {', '.join(PROGRAMS)}") from missing
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return str(done.stdout)


def missing() -> str | None:
    """Why the laboratory can't run on this machine, if it can't."""
    if os.geteuid() != 0:
        return "the laboratory makes namespaces and mounts: it needs root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    if absent:
        return f"the laboratory needs programs that are not installed: {', '.join(absent)}"
    if not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists():
        return "the laboratory needs /dev/fuse and /dev/loop-control"
    return None


def search_path() -> str:
    """PATH with the system directories, which a plain user's lacks."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": search_path(), "LC_ALL": "C"}


def wait_for(what: str, ready: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds * SLOWNESS
    pause = 0.005
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


@contextlib.contextmanager
def locked(name: str, seconds: float = 120) -> Iterator[None]:
    """One process at a time. An abstract socket: it vanishes with its holder and leaves no file behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mine:

        def taken() -> bool:
            try:
                mine.bind(f"\0gluster-lab.{name}")
            except OSError:
                return False
            return True

        wait_for(f"lock {name} (another lab command holds it)", taken, seconds)
        yield


# ------------------------------------------------------------------------------------------------ processes


def alive(pid: int) -> bool:
    """Running, not a zombie: where PID 1 reaps late, an ended process keeps its entry for a second."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    return [other for other in processes() if parent(other) == pid]


def namespace(pid: int | str, kind: str) -> str:
    """Which namespace of this kind the process is in; "" if it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def host_processes(init: int | None) -> list[int]:
    """What runs beside a host's PID 1. By PID namespace: what was sent in through ``nsenter`` counts too."""
    if init is None:
        return []
    inside = namespace(init, "pid")
    return [pid for pid in processes() if pid != init and namespace(pid, "pid") == inside]


def end(pids: Sequence[int], seconds: float = 20) -> None:
    """Kill hard, and wait until all are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        wait_for(f"end of process {pid}", lambda pid=pid: not alive(pid), seconds)  # type: ignore[misc]


# ------------------------------------------------------------------------------------- loop devices, mounts


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device. ``backing_device`` (major:minor) tells apart equal paths on different hosts."""

    name: str
    backing_file: str
    backing_device: str
    inode: int

    @property
    def number(self) -> str:
        """Its own major:minor."""
        device = os.stat(self.name).st_rdev
        return f"{os.major(device)}:{os.minor(device)}"


def loops() -> list[Loop]:
    """Every loop device that has a backing file, one on its way out included.

    ``losetup`` reads the file's name from sysfs and the rest by ioctl: of a device that is detached between the two
    it knows the name alone.
    """
    text = call("losetup", "--list", "--json", "--output", "NAME,BACK-FILE,BACK-MAJ:MIN,BACK-INO")
    entries = json.loads(text)["loopdevices"] if text.strip() else []
    return [
        Loop(
            entry["name"],
            entry["back-file"].removesuffix(" (deleted)"),
            (entry["back-maj:min"] or "").strip(),
            int(entry["back-ino"] or 0),
        )
        for entry in entries
        if entry["back-file"]
    ]


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of a mount table."""

    source: str
    target: str
    type: str
    device: str  # major:minor of the file system


def mounts(pid: int | str = "self") -> list[Mount]:
    """What the mount namespace of a process sees."""
    found = []
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, source, *_ = after.split(" ")
        _, _, device, _, target, *_ = before.split(" ")
        found.append(Mount(_plain(source), _plain(target), kind, device))
    return found


def _plain(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text

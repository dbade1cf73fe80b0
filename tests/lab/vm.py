"""``python -m tests.lab vm -- COMMAND``: the command in user-mode Linux, which has the device-mapper that LVM needs.

The guest runs on this machine's own files. It can write to the checkout alone, and what it writes there is there (a
report, ``.coverage``): all else is read-only for it (the tree that it is given) or lies under a tmpfs (``guest.sh``).
It lives in a PID namespace of its own, so it ends with whoever started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tests.lab.system import LabError, environment, search_path

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = ("linux.uml", "lvm", "thin_check", "depmod", "modprobe", "unshare", "mount", "gcc", "taskset")
MODULES = Path("/usr/lib/uml/modules")
SECONDS = 900.0  # a command is ended after that
MEMORY = "6144M"  # what the guest does not touch costs nothing
_REGISTERS = "xstate.so"
_PASSED_ON = ("CI", "COVERAGE_FILE", "COVERAGE_PROCESS_START", "TERM")

# The host's side of the guest's tree: everything read-only but the checkout and the guest's own directory. The device
# nodes stay writable: as a path they are the guest's own, since its kernel mounts its own devtmpfs there.
_TREE = """
set -e
mount --make-rprivate /
# A copy of a client's mount in here would keep that client alive after its own was gone.
umount --all --lazy --types fuse.glusterfs
for place do mount --bind -- "$place" "$place"; done
mount -o remount,bind,ro /
exec "$0" "${GUEST_WORDS[@]}"
"""


def missing() -> str | None:
    """Why the guest can't run on this machine, if it can't."""
    if os.geteuid() != 0:
        return "the guest runs on this machine's files: it needs root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    if absent:
        return f"programs that are not installed: {', '.join(absent)} (tools/install.sh apt-lvm)"
    return None if any(MODULES.glob("*/kernel")) else f"no kernel modules below {MODULES}"


def inside() -> bool:
    """Are we in the guest?"""
    return os.environ.get("LAB_GUEST") == "1"


def run(command: Sequence[str], seconds: float = SECONDS, memory: str = MEMORY) -> int:
    """Run the command in a guest, its output on our own; its exit status, 124 if its time was up.

    Raises: LabError if the guest could not be started, or ended without a word.
    """
    if reason := missing():
        raise LabError(f"the virtual machine needs {reason}")
    with _directory() as work:
        (work / "command").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in command))
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        (work / "environment").write_bytes(b"".join(f"{name}={text}\0".encode() for name, text in passed.items()))
        release = _prepare_modules(work)
        _prepare_registers(work)
        return _watched(work, _guest(work, release, memory), seconds)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="gluster-lab-vm-", dir=os.environ.get("LAB_DIR", "/tmp")))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def _prepare_modules(work: Path) -> str:
    """The index that modprobe wants, made here: the guest's system calls are slow. The kernel's release."""
    source = next(MODULES.glob("*/kernel")).parent
    target = work / "lib/modules" / source.name
    target.mkdir(parents=True)
    for name in ("kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (target / name).symlink_to(source / name)
    subprocess.run(["depmod", "-b", str(work), source.name], check=True, timeout=60, env=environment())
    return source.name


def _prepare_registers(work: Path) -> None:
    """The library that lets the guest's kernel run on processors that are newer than it."""
    source, target = Path(__file__).with_name("xstate.c"), work / _REGISTERS
    gcc = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(target), str(source)]
    subprocess.run(gcc, check=True, timeout=60, env=environment())


def _guest(work: Path, release: str, memory: str) -> subprocess.Popen[bytes]:
    for name in ("stdout", "stderr"):
        (work / name).touch()
    words = [
        *("linux.uml", f"mem={memory}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw"),
        *("con=null", "con0=null,fd:1", "quiet", "loglevel=3", f"uml_dir={work}/uml", "umid=guest"),
        *(f"init={CHECKOUT}/tests/lab/guest.sh", f"LAB_WORK={work}", f"LAB_RELEASE={release}"),
    ]
    tree = f"GUEST_WORDS=({' '.join(words[1:])})\n{_TREE}"
    # The guest has one processor, and its kernel and its processes wait for each other at each system call: woken on
    # another processor of ours each time they take twice and three times as long.
    processor = str(min(os.sched_getaffinity(0)))
    shelter = ["taskset", "--cpu-list", processor, "unshare"]
    shelter += ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (work / "console").open("wb") as console:
        return subprocess.Popen(
            [*shelter, "bash", "-c", tree, words[0], str(CHECKOUT), str(work)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            # The guest's memory is a file in TMPDIR.
            env={**environment(), "TMPDIR": "/dev/shm", "LD_PRELOAD": str(work / _REGISTERS)},
            start_new_session=True,
        )


def _watched(work: Path, guest: subprocess.Popen[bytes], seconds: float) -> int:
    """Show what the command says while it runs; its exit status."""
    deadline = time.monotonic() + seconds
    previous = signal.signal(signal.SIGTERM, _interrupted)
    try:
        with (work / "stdout").open("rb") as output, (work / "stderr").open("rb") as errors:
            streams = ((output, sys.stdout.buffer), (errors, sys.stderr.buffer))
            while guest.poll() is None and not (work / "status").exists() and not _has_panicked(work):
                _copy(streams)
                if time.monotonic() > deadline:
                    print(f"lab: the guest was ended: not done within {seconds:g} s", file=sys.stderr, flush=True)
                    return 124
                time.sleep(0.05)
            _copy(streams)
    finally:
        guest.kill()  # all of its namespace with it
        guest.wait()
        signal.signal(signal.SIGTERM, previous)
    try:
        return int((work / "status").read_text())
    except (FileNotFoundError, ValueError) as gone:
        said = (work / "console").read_text(errors="replace")[-3000:]
        raise LabError(f"the guest ended without a status; its console says:\n{said}") from gone


def _has_panicked(work: Path) -> bool:
    """A kernel that gives up may stay there and do nothing."""
    return b"Kernel panic" in (work / "console").read_bytes()


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _copy(streams: Sequence[tuple[BinaryIO, BinaryIO]]) -> None:
    for source, target in streams:
        if data := source.read():
            target.write(data)
            target.flush()

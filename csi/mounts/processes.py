"""What ``/proc`` tells of the processes around a mount. Looked at only when something is wrong: each costs a look."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_PROGRAMS = (b"glusterfs", b"glusterfsd")


def has_client(paths: Collection[str], proc: Path = _PROC) -> bool:
    """Whether a GlusterFS client runs for one of the mount points: its last argument is where it was told to mount."""
    wanted = {os.fsencode(path) for path in paths}
    for process in _processes(proc):
        try:
            arguments = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:  # it has ended
            continue
        if os.path.basename(arguments[0]) in _PROGRAMS and arguments[-1] in wanted:
            return True
    return False


def with_argument(argument: str, proc: Path = _PROC) -> tuple[int, ...]:
    """The ids of the processes that were started with it, their forked children included; a zombie shows none."""
    wanted = os.fsencode(argument)
    found = []
    for process in _processes(proc):
        with suppress(OSError):
            if wanted in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return tuple(found)


def is_mounted_anywhere(device: str, proc: Path = _PROC) -> bool:
    """Whether any mount namespace that can be seen has the superblock ``major:minor`` mounted."""
    seen = set()
    for process in _processes(proc):
        try:
            namespace = os.readlink(process / "ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            lines = (process / "mountinfo").read_bytes().splitlines()
        except OSError:
            continue
        if any(line.split(b" ", 3)[2:3] == [device.encode()] for line in lines):
            return True
    return False


def _processes(proc: Path) -> Iterator[Path]:
    return (entry for entry in proc.iterdir() if entry.name.isdigit())

"""Processes that a runner began on this machine: whether they are still there."""

from __future__ import annotations

import asyncio
from pathlib import Path


def alive(pid: int) -> bool:
    """A zombie is not: nobody says when it is reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pid_from(path: Path) -> int:
    while not (path.exists() and (text := path.read_text()).endswith("\n")):
        await asyncio.sleep(0.01)
    return int(text)


def lasting(path: Path) -> tuple[str, ...]:
    """A command that writes down its process id and stays, with a child that does the same."""
    return ("sh", "-c", 'sleep 300 & echo $! >"$1.child"; echo $$ >"$1"; exec sleep 300', "sh", str(path))


async def gone(path: Path) -> bool:
    return not alive(await pid_from(path)) and not alive(await pid_from(path.with_name(path.name + ".child")))

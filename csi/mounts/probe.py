"""The question whether a mounted file system answers, which may never be answered.

A system call on a FUSE mount whose client hangs blocks in the kernel where no signal reaches it. A thread that does
it would keep this process from ending, so a child process does; it is left behind when the time is up. At
most one such child exists for each mount: whoever asks meanwhile waits for that one's answer.

The call is ``statfs``. A plain ``stat`` won't do: for a second the kernel answers it for a dead client.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass

from csi.mounts.mountinfo import MountEntry
from csi.ports import Usage

_QUESTION = ("stat", "-f", "-c", "%S %b %f %a %c %d", "--")


@dataclass(frozen=True, slots=True)
class Answer:
    """``usage`` if the file system answered, else why not: ``silent`` if it said nothing in time."""

    usage: Usage | None = None
    reason: str = ""
    silent: bool = False


class Probes:
    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._open: dict[tuple[int, str], asyncio.Task[Answer]] = {}

    async def ask(self, entry: MountEntry) -> Answer:
        # A mount that replaced a hanging one at the same path has another id, and is asked anew.
        key = (entry.id, entry.path)
        task = self._open.get(key)
        if task is None:
            task = asyncio.create_task(_run(entry.path), name="probe")
            self._open[key] = task
            task.add_done_callback(lambda _: self._open.pop(key, None))
        done, _ = await asyncio.wait({task}, timeout=self.timeout)
        if not done:
            return Answer(reason=f"no answer within {self.timeout:g} s", silent=True)
        return task.result()


async def _run(path: str) -> Answer:
    try:
        process = await asyncio.create_subprocess_exec(
            *(*_QUESTION, path),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        return Answer(reason=f"cannot run stat: {error.strerror}", silent=True)
    stdout, stderr = await process.communicate()
    if process.returncode != 0:
        # "stat: cannot read file system information for '/path': Transport endpoint is not connected"
        return Answer(reason=stderr.decode(errors="replace").strip().rpartition(": ")[2] or "stat failed")
    block, blocks, free, available, inodes, free_inodes = (int(field) for field in stdout.split())
    return Answer(
        Usage(
            total=blocks * block,
            used=(blocks - free) * block,
            available=available * block,
            inodes=inodes,
            inodes_used=inodes - free_inodes,
            inodes_free=free_inodes,
        )
    )

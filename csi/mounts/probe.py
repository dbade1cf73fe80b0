"""The question whether a mounted file system answers, which may never be answered.

A system call on a FUSE mount whose client hangs blocks in the kernel where no signal reaches it. A thread that does
it would keep this process from ending, so another process does: a *prober*, which goes from one question to the next
since starting a process costs more than most answers. One that gets no answer in time is left behind, and ends
when it has one. At most one hangs for each mount: whoever asks meanwhile waits for that one's answer.

The call is ``statfs``. A plain ``stat`` won't do: for a second the kernel answers it for a dead client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path

from csi.mountports import Usage
from csi.mounts.mountinfo import MountEntry

PROBER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("prober.py")))


@dataclass(frozen=True, slots=True)
class Answer:
    """``usage`` if the file system answered, else why not: ``silent`` if it said nothing in time."""

    usage: Usage | None = None
    reason: str = ""
    silent: bool = False


class Probes:
    """``timeout`` in seconds. ``close`` ends the probers that wait for a question."""

    def __init__(self, timeout: float, program: tuple[str, ...] = PROBER) -> None:
        self.timeout = timeout
        self._program = program
        self._idle: list[Process] = []
        self._open: dict[tuple[int, str], asyncio.Task[Answer]] = {}
        self._closed = False

    async def ask(self, entry: MountEntry) -> Answer:
        # A mount that replaced a hanging one at the same path has another id, and is asked anew.
        key = (entry.id, entry.path)
        task = self._open.get(key)
        if task is None:
            task = asyncio.create_task(self._question(entry.path), name="probe")
            self._open[key] = task
            task.add_done_callback(lambda _: self._open.pop(key, None))
        done, _ = await asyncio.wait({task}, timeout=self.timeout)
        if not done:
            return Answer(reason=f"no answer within {self.timeout:g} s", silent=True)
        return task.result()

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await _end(self._idle.pop())

    async def _question(self, path: str) -> Answer:
        said = b""
        while not said.endswith(b"\n"):
            reused = bool(self._idle)
            try:
                prober = self._idle.pop() if self._idle else await self._start()
            except OSError as error:
                return Answer(reason=f"cannot run {self._program[0]}: {error.strerror}", silent=True)
            said = await _exchange(prober, path)
            if said.endswith(b"\n") and not self._closed:
                self._idle.append(prober)
                break
            await _end(prober)
            if not said.endswith(b"\n") and not reused:  # one that waited may have been killed meanwhile
                return Answer(reason="the process that asks it ended", silent=True)
        return _read(said.decode().split())

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._program, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd="/", start_new_session=True
        )


async def _exchange(prober: Process, path: str) -> bytes:
    assert prober.stdin is not None
    assert prober.stdout is not None
    try:
        prober.stdin.write(os.fsencode(path).hex().encode() + b"\n")
        await prober.stdin.drain()
        return await prober.stdout.readline()
    except OSError:
        return b""


async def _end(prober: Process) -> None:
    assert prober.stdin is not None
    prober.stdin.close()
    await prober.wait()


def _read(words: list[str]) -> Answer:
    match words:
        case ["error", reason]:
            return Answer(reason=bytes.fromhex(reason).decode())
        case ["usage", *numbers]:
            block, blocks, free, available, inodes, free_inodes = map(int, numbers)
        case _:
            return Answer(reason=f"the process that asks it said {' '.join(words)!r}", silent=True)
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

"""One shell, or one program, on a host: a process that takes text and talks on two streams.

How the process was started, and how its bytes travel, is the business of a ``Link``: an ssh connection (``ssh.py``)
or this machine itself (``local.py``). How many there are per host and what becomes of them is told in ``pool.py``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from csi.core.command import Command, Result, Script
from csi.core.errors import CommandTimeout, HostUnreachable, Superseded
from csi.hosts import shell
from csi.hosts.mandate import Mandate

OPEN_TIMEOUT = 10.0
"""Seconds for a new shell to say hello; a login shell's start-up files run before it does."""

UNREAD_LIMIT = 32 << 20
"""Bytes that a program may say while nobody reads; one that says more is ended."""

# Statuses of csi_hello (session.sh).
_SUPERSEDED = 76
_HANGING = 77

_LAST_WORDS = 0.05  # seconds from the end of a process to the end of what it said


class SessionRefused(Exception):
    """The host lets no further session be opened on this connection, for now."""


class Pipe(Protocol):
    """Our end of a process on a host. Nothing here waits, and all of it may be called when the process is gone."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None:
        """Let go of it. The process itself may live on."""


class Receiver(Protocol):
    """Who is told what the process says."""

    def received(self, stream: int, data: bytes) -> None:
        """``stream``: 0 is stdout, 1 is stderr."""

    def ending(self) -> None:
        """One of its streams is at its end; the other may have more to say."""

    def exited(self) -> None:
        """The process has ended. Some of its output may still be on the way, or held open by a child of its."""

    def ended(self, reason: str) -> None:
        """Nothing more will come."""


class Link(Protocol):
    """The way to one host."""

    @property
    def alive(self) -> bool: ...

    async def start(self, receiver: Receiver) -> Pipe:
        """A new /bin/sh in a process group of its own. Raises: SessionRefused, HostUnreachable."""

    async def close(self) -> None: ...


class Shell:
    """A long-lived /bin/sh. One script at a time; ``busy`` while the answer of one is not complete."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.gone = ""  # why, if it is
        self.has_exited = False  # known for certain; it can be gone for us and live on
        self.words: tuple[str, ...] = ()  # csi_hello: who the process is, for csi_end
        self._pipe: Pipe | None = None
        self._reply: shell.Reply | None = None
        self._program: Program | None = None
        self._woken: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, host: str, link: Link, mandate: Mandate | None = None) -> Shell:
        """Raises: SessionRefused, HostUnreachable, Superseded (the host obeys a higher term than the mandate's)."""
        new = cls(host)
        new._pipe = await link.start(new)
        words = mandate.words if mandate is not None else ()
        hello = Script((Command(("csi_hello", *words), ok=tuple(range(256))),), timeout=OPEN_TIMEOUT)
        try:
            (said,) = await new._exchange(hello, shell.prelude().encode())
        except TimeoutError:
            new.drop()
            raise HostUnreachable(
                host, f"its shell did not answer within {OPEN_TIMEOUT:g} s: look at the login shell's start-up files"
            ) from None
        except BaseException:
            new.drop()
            raise
        if mandate is not None and said.status in (_SUPERSEDED, _HANGING):
            new.drop()
            raise _refusal(host, mandate, said)
        new.words = tuple(said.stdout.split())
        if said.status or len(new.words) != 3:
            new.drop()
            raise HostUnreachable(host, f"its shell cannot be used: {(said.stderr or said.stdout).strip()[-500:]}")
        return new

    @property
    def busy(self) -> bool:
        return self._program is not None or (self._reply is not None and not self._reply.done)

    def running(self, script: Script) -> tuple[str, ...]:
        """The command of the present script that the shell has come to; not a silent one, which are over at once."""
        reached = 0 if self._reply is None else self._reply.reached
        there = script.commands[reached:] or script.commands[-1:]
        return next((command for command in there if not shell.is_unmarked(command)), there[-1]).argv

    async def run(self, script: Script) -> tuple[Result, ...]:
        """A result for each command that was reached; whether they are good is not looked at.

        Raises: HostUnreachable, and TimeoutError. After the latter, and when cancelled, the script still runs.
        """
        return await self._exchange(script)

    async def _exchange(self, script: Script, before: bytes = b"") -> tuple[Result, ...]:
        nonce = secrets.token_hex(16)
        text = before + shell.compile_script(script, nonce, first=bool(before))
        reply = self._reply = shell.Reply(nonce)
        if not self.gone:
            self._write(text)
            await self._wait(script.timeout)
        if reply.done:
            return reply.results()
        if not self.gone:
            raise TimeoutError
        said = reply.unmarked()[-500:]
        during = f" during {' '.join(self.running(script))[:200]!r}" if self.words else ""
        raise HostUnreachable(self.host, f"{self.gone}{during}" + (f": {said}" if said else ""))

    async def become(self, argv: Sequence[str], end: Callable[[], Awaitable[None]]) -> Program:
        """The shell's process becomes this program, which ``end`` ends. Raises: HostUnreachable, TimeoutError."""
        nonce = secrets.token_hex(16)
        text = shell.compile_exec(argv, nonce)
        program = self._program = Program(self, argv, end)
        if not self.gone:
            self._write(text)
        await program.started(shell.exec_marker(nonce))
        return program

    def drop(self) -> None:
        """Let go of the process; ending it is for ``csi_end``."""
        self.ended("the session was closed")
        if self._pipe is not None:
            self._pipe.close()

    def end_input(self) -> None:
        if self._pipe is not None and not self.gone:
            self._pipe.write_eof()

    def write(self, data: bytes) -> None:
        """For the program. Raises: HostUnreachable."""
        if self.gone:
            raise HostUnreachable(self.host, self.gone)
        self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._pipe is not None
        self._pipe.write(data)

    async def wait(self, timeout: float) -> bool:
        """Until something more was said or the process is gone; False if neither came in time."""
        return bool(self.gone) or await self._wait(timeout)

    async def wait_gone(self, timeout: float) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while not self.gone and clock() < deadline:
            await self._wait(deadline - clock())

    async def _wait(self, timeout: float) -> bool:
        if self._woken is None or self._woken.done():
            self._woken = asyncio.get_running_loop().create_future()
        # Not wait_for: it may lose an answer that comes in the very moment of the time-out or of a cancellation.
        done, _ = await asyncio.wait((self._woken,), timeout=max(0.0, timeout))
        return bool(done)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # What a Link calls.

    def received(self, stream: int, data: bytes) -> None:
        if self._program is not None:
            if stream == 0:
                self._program.received(data)
                self._wake()
        elif self._reply is not None and self._reply.feed(stream, data):
            self._wake()

    def exited(self) -> None:
        self.has_exited = True
        self.ending()

    def ending(self) -> None:
        asyncio.get_running_loop().call_later(_LAST_WORDS, self.ended, "the shell ended")

    def ended(self, reason: str) -> None:
        if not self.gone:
            self.gone = reason
            self._wake()


def _refusal(host: str, mandate: Mandate, said: Result) -> HostUnreachable:
    if said.status == _SUPERSEDED:
        obeyed = int(said.stderr)
        return Superseded(host, mandate.refusal(obeyed), obeyed)
    what = ", ".join(said.stderr.strip().splitlines())
    return HostUnreachable(
        host, f"what a controller before this one left there hangs in the kernel ({what}): look at its disks and mounts"
    )


class Program:
    """A long-lived program in the place of a shell; its stderr comes with its stdout. One reader at a time."""

    def __init__(self, process: Shell, argv: Sequence[str], end: Callable[[], Awaitable[None]]) -> None:
        self._process = process
        self._argv = tuple(argv)
        self._end = end
        self._unread = bytearray()

    async def started(self, marker: bytes) -> None:
        """Until the shell has given way. Raises: HostUnreachable, TimeoutError."""
        try:
            await self.read_until(marker, OPEN_TIMEOUT)
        except CommandTimeout:
            raise TimeoutError from None

    def received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > UNREAD_LIMIT:
            self._unread.clear()
            self._process.ended(f"{self._argv[0]} said more than {UNREAD_LIMIT} bytes that nobody read")

    async def write(self, data: bytes) -> None:
        self._process.write(data)

    async def close(self) -> None:
        await self._end()

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        """See ``ports.Channel``."""
        host = self._process.host
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        looked = 0
        while (found := self._unread.find(end, looked)) < 0:
            if len(self._unread) > limit:
                raise HostUnreachable(host, f"{self._argv[0]} said more than {limit} bytes without an end")
            if self._process.gone:
                said = self._unread[-500:].decode("utf-8", "replace").strip()
                raise HostUnreachable(host, f"{self._argv[0]} ended ({self._process.gone})" + (said and f": {said}"))
            looked = max(0, len(self._unread) - len(end) + 1)
            if not await self._process.wait(deadline - clock()):
                raise CommandTimeout(host, self._argv, timeout)
        answer = bytes(self._unread[: found + len(end)])
        del self._unread[: found + len(end)]
        return answer

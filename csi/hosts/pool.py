"""All shells and programs of one host: one connection, shells on demand up to a limit, idle ones used again.

A shell goes back to the pool only when its answer was read to the end. One whose script took too long, or whose
caller went away, is ended on the host together with what it runs, through another session. Where that can't be done,
since the connection broke, the shell's words are kept and it is ended before the next connection is used: what is
left of an old script never runs beside a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable
from csi.core.model import Host
from csi.hosts.mandate import Mandated, nobody
from csi.hosts.sessions import Link, SessionRefused, Shell
from csi.ports import Channel

_log = structlog.get_logger(__name__)

FIRST_BACK_OFF = 0.25
LAST_BACK_OFF = 5.0
"""Seconds after a failed connect in which the next try fails at once; few, so that a host that returns is used soon."""

END_TIMEOUT = 10.0  # for ending what a shell runs
EOF_TIMEOUT = 0.25  # for a program to end by itself when its input ends


class HostSessions:
    """The sessions of one host."""

    def __init__(
        self, host: str, connect: Callable[[], Awaitable[Link]], limit: int, mandate: Mandated = nobody
    ) -> None:
        self.host = host
        self._connect = connect
        self._mandate = mandate
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[Shell] = []
        self._used: set[Shell] = set()
        self._holders = 0  # of slots
        self._programs: set[Shell] = set()  # holders that hold their slot for as long as they live
        self._starting = 0  # programs on their way in
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._reason = ""
        self._ending = asyncio.Lock()  # one session in reserve is enough to end any number of others
        self._lost: list[tuple[str, ...]] = []  # shells whose end was not seen
        self._tasks: set[asyncio.Task[str]] = set()
        self._closed = False

    # --- what the runner does -----------------------------------------------------------------

    async def run(self, script: Script) -> tuple[Result, ...]:
        process = await self._take()
        try:
            results = await process.run(script)
        except TimeoutError:
            argv = process.running(script)
            if problem := await self._discard(process):
                what = f"{' '.join(argv)[:200]!r} did not end within {script.timeout:g} s"
                raise HostUnreachable(self.host, f"{what} and could not be ended: {problem}") from None
            raise CommandTimeout(self.host, argv, script.timeout) from None
        except BaseException:
            await self._discard(process)
            raise
        self._keep(process)
        return results

    async def open(self, argv: Sequence[str]) -> Channel:
        # Programs stay; if they took every session, scripts would wait for one for ever.
        most = max(self._limit - 2, min(1, self._limit - 1))
        if len(self._programs) + self._starting >= most:
            raise HostUnreachable(
                self.host, f"{most} programs hold a session of it already; the others are for scripts"
            )
        self._starting += 1
        try:
            process = await self._take()
            self._programs.add(process)
        finally:
            self._starting -= 1
        try:
            return await process.become(argv, lambda: self._end_program(process))
        except TimeoutError:
            await self._discard(process)
            raise HostUnreachable(self.host, f"{argv[0]!r} could not be started: its shell does not answer") from None
        except BaseException:
            await self._discard(process)
            raise

    async def close(self) -> None:
        """End everything, also what runs."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        await asyncio.gather(*(self._end(process) for process in self._used))
        for process in (*self._used, *self._idle):
            process.drop()
        self._idle.clear()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._link is not None:
            await self._link.close()

    # --- a shell's way out of the pool and back -----------------------------------------------

    async def _take(self) -> Shell:
        """A shell that is ready, with one of the slots."""
        await self._slots.acquire()
        self._holders += 1
        try:
            process = self._take_idle() or await self._open_shell()
        except BaseException:
            self._release()
            raise
        if process is None:
            # The host allows fewer sessions than we do: this slot is gone for good.
            self._holders -= 1
            self._limit -= 1
            _log.warning("host refuses a session: fewer are used from now on", host=self.host, sessions=self._limit)
            return await self._take()
        self._used.add(process)
        return process

    def _release(self) -> None:
        self._holders -= 1
        self._slots.release()

    def _take_idle(self) -> Shell | None:
        while self._idle:
            process = self._idle.pop()
            if not process.gone:
                return process
        return None

    async def _shell(self, link: Link) -> Shell:
        return await Shell.open(self.host, link, self._mandate())

    async def _open_shell(self) -> Shell | None:
        """None if the host refuses, and others of our sessions are there to be waited for."""
        refused: SessionRefused | None = None
        for pause in (0.0, 0.05, 0.2):  # a session that has just ended may still count
            await asyncio.sleep(pause)
            try:
                return await self._shell(await self._linked())
            except SessionRefused as refusal:
                refused = refusal
        if self._holders - len(self._programs) > 1:
            return None
        raise HostUnreachable(
            self.host,
            f"it refuses a session ({refused}), and programs hold {len(self._programs)}: raise sshd's MaxSessions",
        )

    def _keep(self, process: Shell) -> None:
        self._used.discard(process)
        self._programs.discard(process)
        if not process.gone and not self._closed:
            self._idle.append(process)
        else:
            process.drop()
        self._release()

    async def _discard(self, process: Shell) -> str:
        """End what it runs and let go of it, also if the caller is cancelled meanwhile. Says what could not be done."""
        if not process.busy and not process.gone:
            self._keep(process)
            return ""
        return await self._finish(process, 0.0)

    async def _end_program(self, process: Shell) -> None:
        process.end_input()
        await self._finish(process, EOF_TIMEOUT)

    async def _finish(self, process: Shell, patience: float) -> str:
        if process not in self._used:
            return ""
        self._used.discard(process)
        task = asyncio.create_task(self._dispose(process, patience))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _dispose(self, process: Shell, patience: float) -> str:
        try:
            await process.wait_gone(patience)
            return await self._end(process)
        finally:
            process.drop()
            self._programs.discard(process)
            self._release()

    # --- ending what runs ---------------------------------------------------------------------

    async def _end(self, process: Shell) -> str:
        """End the shell's process group. Says what could not be done; it is then tried again on the next connection."""
        if process.has_exited or not process.words:
            return ""
        problem = "the connection is lost"
        link = self._link
        if link is not None and link.alive:
            try:
                async with asyncio.timeout(END_TIMEOUT), self._ending:
                    problem = await self._end_through(link, process.words)
            except TimeoutError:
                problem = f"no answer within {END_TIMEOUT:g} s"
            except HostUnreachable as error:
                problem = error.reason
            except SessionRefused as refusal:
                problem = str(refusal)
        if problem:
            self._lost.append(process.words)
        return problem

    async def _end_through(self, link: Link, *lost: tuple[str, ...]) -> str:
        own: Link | None = None
        try:
            killer = await self._shell(link)
        except SessionRefused:
            # Every session that the host allows is in use: a connection of its own, then.
            own = await self._connect()
            killer = await self._shell(own)
        try:
            ends = tuple(Command(("csi_end", *words), ok=tuple(range(256))) for words in lost)
            results = await killer.run(Script(ends, timeout=END_TIMEOUT))
            return "it hangs in the kernel" if any(result.status for result in results) else ""
        finally:
            killer.drop()
            if own is not None:
                await own.close()

    # --- the connection -----------------------------------------------------------------------

    async def _linked(self) -> Link:
        """The connection; those who want it at the same time wait for the same one."""
        if self._closed:
            raise HostUnreachable(self.host, "the runner is closed")
        if self._link is not None and self._link.alive:
            return self._link
        if self._connecting is None:
            wait = self._retry_at - asyncio.get_running_loop().time()
            if wait > 0:
                raise HostUnreachable(self.host, f"{self._reason}; next try in {wait:.1f} s")
            self._connecting = asyncio.create_task(self._establish())
            self._connecting.add_done_callback(self._established)
        task = self._connecting
        await asyncio.wait((task,))  # unlike awaiting it: our own cancellation is not the others', nor theirs ours
        if task.cancelled():
            raise HostUnreachable(self.host, "the runner is closed")
        if isinstance(error := task.exception(), HostUnreachable):
            raise HostUnreachable(error.host, error.reason) from error
        return task.result()

    async def _establish(self) -> Link:
        if self._link is not None:
            await self._link.close()
            self._link = None
        link = await self._connect()
        try:
            while self._lost:  # others may be added meanwhile
                lost = tuple(self._lost)
                await self._end_through(link, *lost)
                del self._lost[: len(lost)]
        except BaseException as error:
            await link.close()
            if isinstance(error, (SessionRefused, TimeoutError)):
                raise HostUnreachable(
                    self.host, f"what an earlier connection left could not be ended: {error}"
                ) from error
            raise
        self._link = link
        return link

    def _established(self, task: asyncio.Task[Link]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failures = 0
            return
        self._reason = error.reason if isinstance(error, HostUnreachable) else str(error)
        back_off = min(FIRST_BACK_OFF * 2**self._failures, LAST_BACK_OFF)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = asyncio.get_running_loop().time() + back_off


class ShellRunner:
    """``ports.Runner`` over shells, whatever carries them."""

    def __init__(self, connect: Callable[[Host], Awaitable[Link]], sessions: int, mandate: Mandated = nobody) -> None:
        self._connect = connect
        self._mandate = mandate
        self._sessions = sessions
        self._hosts: dict[str, HostSessions] = {}
        self._closed = False

    def _of(self, host: Host) -> HostSessions:
        if self._closed:
            raise HostUnreachable(host.manage, "the runner is closed")
        if host.manage not in self._hosts:
            self._hosts[host.manage] = HostSessions(
                host.manage, lambda: self._connect(host), self._sessions, self._mandate
            )
        return self._hosts[host.manage]

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        """See ``ports.Runner``."""
        if not script.commands:
            return ()
        results = await self._of(host).run(script)
        command, last = script.commands[len(results) - 1], results[-1]
        if not last.skipped and last.status not in command.ok:
            raise CommandFailed(host.manage, command.argv, last.status, last.stderr)
        return results

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        """See ``ports.Runner``."""
        return await self._of(host).open(argv)

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*(sessions.close() for sessions in self._hosts.values()))

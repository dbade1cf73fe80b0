"""Ways to ask the gluster of a host: long-lived sessions, and a process of its own for what a session cannot take.

A session (``gluster --mode=script --xml`` with commands on its input) answers in a tenth of the time that a process
needs to start. Its traps, seen on GlusterFS 10.3:

- A command that the tool does not understand ends it, after a word in plain text.
- To ``volume barrier`` it always answers in plain text, of which nobody can tell the end; so it is asked for something
  else at once. A refusal ends it.
- While glusterd does not run it says nothing at all, and carries out what it was given when glusterd is back. So when
  it is slow glusterd is looked for, and a session that is given up is ended before anything else is tried.

A session takes one command at a time. It goes back to the idle ones only after a whole answer to that command;
whatever else happens, cancellation included, it is ended, and what became of the command is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from csi.core.command import Command, Script
from csi.core.errors import CommandTimeout, GlusterFailed, HostUnreachable
from csi.core.model import Host
from csi.gluster import envelope
from csi.gluster.envelope import Answer, Meaning
from csi.ports import Channel, Runner

_log = structlog.get_logger(__name__)

ARGV = ("gluster", "--mode=script", "--xml")
_END = b"</cliOutput>\n"
_WELCOME = b"Welcome to gluster prompt"
_AND_ANYTHING = b"peer status\n"  # that is answered with a document
_ANSWER_LIMIT = 256 << 20  # `volume info all` has some 2 KiB for a volume of three bricks

FIRST_LOOK = 2.0  # seconds of silence, after which glusterd is looked for
NEXT_LOOKS = 10.0
_LOOK_TIMEOUT = 10.0


class SessionLostError(Exception):
    """The session ended or did not make sense; whether the command was carried out is not known."""

    def __init__(self, reason: str, *, reused: bool) -> None:
        super().__init__(reason)
        self.reused = reused  # it had answered before, so the fault may be its age and not the command


@dataclass(slots=True)
class _Seats:
    """The sessions of one host.

    They are given in the order in which they are asked for. If the volume that was begun first came first, thirty at
    once would be done a quarter earlier on average, but all of them a tenth later: glusterd is slower at everything
    while volumes run, and so all are written down before the first one starts.
    """

    free: asyncio.Semaphore
    idle: list[Channel] = field(default_factory=list)


class Sessions:
    """The sessions of all hosts, at most ``per_host`` of each."""

    def __init__(self, runner: Runner, per_host: int) -> None:
        self._runner = runner
        self._per_host = per_host
        self._seats: dict[str, _Seats] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def are_taken(self, host: Host) -> bool:
        """Whether a command would have to wait for others."""
        return self._seats_of(host).free.locked()

    def _seats_of(self, host: Host) -> _Seats:
        return self._seats.setdefault(host.manage, _Seats(asyncio.Semaphore(self._per_host)))

    async def ask(self, host: Host, line: bytes, timeout: float, *, fresh: bool = False, plain: bool = False) -> Answer:
        """``plain``: the answer is a line of text.

        Raises: SessionLostError, HostUnreachable (also: no glusterd there), CommandTimeout.
        """
        seats = self._seats_of(host)
        async with seats.free:
            reused = bool(seats.idle) and not fresh
            channel = seats.idle.pop() if reused else await self._open(host)
            try:
                answer = await self._exchange(host, channel, line, timeout, reused=reused, plain=plain)
            except BaseException:
                await self._discard(channel)
                raise
            if self._closed:
                await self._discard(channel)
            else:
                seats.idle.append(channel)
            return answer

    async def _open(self, host: Host) -> Channel:
        try:
            return await self._runner.open(host, ARGV)
        except HostUnreachable as error:
            # Perhaps only its sessions are taken; a process of its own will tell.
            raise SessionLostError(error.reason, reused=False) from error

    async def _exchange(
        self, host: Host, channel: Channel, line: bytes, timeout: float, *, reused: bool, plain: bool
    ) -> Answer:
        try:
            await channel.write(line + _AND_ANYTHING if plain else line)
            said = await self._read(host, channel, timeout)
        except HostUnreachable as error:
            raise SessionLostError(error.reason, reused=reused) from error
        before, _, document = said.partition(b"<?xml")
        if not reused and before.lstrip().startswith(_WELCOME):
            before = before.lstrip().partition(b"\n")[2]
        told = before if plain else b"<?xml" + document
        answer = envelope.read(host.manage, line.decode().rstrip("\n"), told)
        if answer is None or (before.strip() and not plain):
            # Something stands before the answer: it may be the answer to something else.
            raise SessionLostError(f"it said {said[:300]!r}", reused=reused)
        return answer

    async def _read(self, host: Host, channel: Channel, timeout: float) -> bytes:
        left, part = timeout, FIRST_LOOK
        while True:
            try:
                return await channel.read_until(_END, min(part, left), _ANSWER_LIMIT)
            except CommandTimeout as silence:
                left -= part
                if left <= 0:
                    raise CommandTimeout(host.manage, ARGV, timeout) from silence
            if await self._daemon_is_gone(host):
                raise SessionLostError("glusterd does not run there", reused=False)
            part = NEXT_LOOKS

    async def _daemon_is_gone(self, host: Host) -> bool:
        """Whether no glusterd runs on the host. One that is slow is there."""
        try:
            answer = await alone(self._runner, host, ("peer", "status"), _LOOK_TIMEOUT)
        except (CommandTimeout, GlusterFailed):
            return False
        return answer.meaning is Meaning.NO_DAEMON

    async def _discard(self, channel: Channel) -> None:
        """End the session before anything else is done, also if the caller is cancelled meanwhile."""
        task = asyncio.create_task(channel.close())
        self._ending.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait((task,))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a gluster session could not be ended", error=str(error))

    async def close(self) -> None:
        """End all sessions; those in use end with their commands."""
        self._closed = True
        for seats in self._seats.values():
            for channel in seats.idle:
                self._ending.add(asyncio.create_task(channel.close()))
            seats.idle.clear()
        if self._ending:
            await asyncio.wait(tuple(self._ending))


async def alone(runner: Runner, host: Host, words: Sequence[str], timeout: float) -> Answer:
    """Ask through a process of its own.

    Raises: HostUnreachable, CommandTimeout, GlusterFailed (it said nothing that could be understood).
    """
    command = Command((*ARGV, *words), ok=tuple(range(256)))
    (result,) = await runner.run(host, Script((command,), timeout))
    said = result.stdout if "<?xml" in result.stdout else f"{result.stdout}\n{result.stderr}"
    answer = envelope.read(host.manage, " ".join(words), said, result.status)
    if answer is None:
        reason = f"no answer to be understood: {said.strip()[:300]!r}"
        raise GlusterFailed(host.manage, " ".join(words), result.status, reason)
    return answer

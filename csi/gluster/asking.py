"""Which host is asked, and what happens when it does not answer or the volume is locked.

A few hosts of a cluster act, side by side: what is about one volume goes through one of them, by its name, since
glusterd locks a volume and not the pool, and waits for its peers in the middle of a change. A host that fails acts no
more until it has been heard of again and some time has passed, or all others fail; the next one in the order of the
pool takes its place.

A change whose answer was lost is said again, on the same host or on the next; ``adapter.py`` makes sure that this is
harmless. If the first one is still under way, the volume is locked until it is done.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

import structlog
import tenacity

from csi.core.errors import CommandTimeout, DriverError, HostUnreachable, Unavailable
from csi.core.model import Host, HostId
from csi.gluster import parse, words
from csi.gluster.envelope import Answer, Meaning
from csi.gluster.reach import FRESH, Reach
from csi.gluster.session import SessionLostError, Sessions, alone
from csi.ports import Clock, Heard, Peer, Pool, Runner

_log = structlog.get_logger(__name__)

_FIRST_PAUSE = 0.05  # seconds, at most
_ACTING = 3  # hosts; each keeps sessions open
_REST = 60.0  # seconds without acting, for a host that has failed


class Asker:
    """``patience`` is how many seconds a volume that others keep locked is waited for."""

    def __init__(
        self, runner: Runner, clock: Clock, sessions: int, patience: float, heard: Heard | None = None
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._patience = patience
        self._sessions = Sessions(runner, sessions)
        self._reach = Reach(runner, clock, heard)
        self._heard = heard
        self._failed: dict[HostId, float] = {}  # when

    async def close(self) -> None:
        await self._sessions.close()

    async def ask(self, host: Host, command: Sequence[str], timeout: float, *, at_once: bool = False) -> Answer:
        """One host, by a session or by a process of its own. ``at_once``: not after what others ask it.

        Raises: HostUnreachable (also: no glusterd there), Unavailable (no answer in time), GlusterFailed.
        """
        command = words.checked(command)
        line, plain = words.line(command), words.is_plainly_answered(command)
        try:
            if line is not None and not (at_once and self._sessions.are_taken(host)):
                try:
                    return await self._by_session(host, line, timeout, plain)
                except SessionLostError as lost:
                    _log.warning("gluster session lost", host=host.manage, command=" ".join(command), reason=str(lost))
            answer = await alone(self._runner, host, command, timeout)
        except CommandTimeout as error:
            silent = Answer(host.manage, " ".join(command), Meaning.SILENT, 0, f"no answer within {timeout:g} s")
            raise silent.error() from error
        if answer.meaning in (Meaning.NO_DAEMON, Meaning.SILENT):
            raise answer.error()
        return answer

    async def _by_session(self, host: Host, line: bytes, timeout: float, plain: bool) -> Answer:
        try:
            return await self._sessions.ask(host, line, timeout, plain=plain)
        except SessionLostError as lost:
            if not lost.reused:
                raise
        return await self._sessions.ask(host, line, timeout, fresh=True, plain=plain)

    async def first(self, pool: Pool, command: Sequence[str], timeout: float, *, changes: bool) -> Answer:
        """What the first host that can answer says, beginning with the one that acts for this volume.

        A change that got no answer in time is not tried elsewhere: it may be under way still, and keeps its lock.
        Raises: HostUnreachable, Unavailable (no answer in time), GlusterFailed.
        """
        failure: DriverError = Unavailable("the cluster has no hosts that gluster could be asked on: load a topology")
        about = command[2] if command[0] == "volume" and len(command) > 2 else ""
        for host in self.in_order(pool, about):
            try:
                answer = await self.ask(host, command, timeout)
            except HostUnreachable as error:
                self._failed[host.id] = self._clock.monotonic()
                failure = error
            except Unavailable as error:
                if changes:
                    raise
                self._failed[host.id] = self._clock.monotonic()
                failure = error
            else:
                self._failed.pop(host.id, None)
                return answer
        raise failure

    def in_order(self, pool: Pool, volume: str = "") -> list[Host]:
        """The host that acts for this volume first, those that have failed last."""
        sound, failed = list(pool.hosts), list[Host]()
        if self._failed:  # seldom; a pool may have hundreds of hosts, and each question comes through here
            out = {host.id for host in pool.hosts if not self._is_sound(host.id)}
            sound, failed = [h for h in pool.hosts if h.id not in out], [h for h in pool.hosts if h.id in out]
        turn = zlib.crc32(volume.encode()) % len(sound[:_ACTING]) if sound else 0
        return [*sound[turn:_ACTING], *sound[:turn], *sound[_ACTING:], *failed]

    def _is_sound(self, host: HostId) -> bool:
        failed = self._failed.get(host)
        if failed is None:
            return True
        back = self._heard is not None and self._heard.answered(host) > failed
        return back and self._clock.monotonic() - failed > _REST

    async def peers(self, pool: Pool, timeout: float) -> tuple[Peer, ...]:
        """The other peers, as the acting host sees them."""
        return parse.peers((await self.first(pool, ("peer", "status"), timeout, changes=False)).done())

    async def nobody_has_vanished(self, pool: Pool, timeout: float, fresh: float = FRESH) -> None:
        """Raises: Unavailable, if a host is gone and glusterd has not noticed (``reach.py``)."""
        await self._reach.check(pool, lambda: self.peers(pool, timeout), fresh)

    async def change(self, pool: Pool, command: Sequence[str], timeout: float) -> Answer:
        """As ``first``, if no host has vanished; while others keep the volume locked it is tried again and again.

        The answer is LOCKED when patience is at its end.
        """
        await self.nobody_has_vanished(pool, timeout)
        begun = self._clock.monotonic()
        # The first try needs no bookkeeping, and nearly all end with it.
        answer = await self.first(pool, command, timeout, changes=True)
        if answer.meaning is not Meaning.LOCKED:
            return answer
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda answer: answer.meaning is Meaning.LOCKED),
            wait=tenacity.wait_random_exponential(multiplier=2 * _FIRST_PAUSE, max=1.0),
            stop=lambda _: self._clock.monotonic() - begun > self._patience,
            sleep=self._clock.sleep,
            retry_error_callback=_last_answer,
        )
        await self._clock.sleep(random.uniform(0, _FIRST_PAUSE))  # noqa: S311 - jitter
        again: Answer = await retrying(self.first, pool, command, timeout, changes=True)
        return again


def _last_answer(state: tenacity.RetryCallState) -> Answer:
    assert state.outcome is not None
    answer: Answer = state.outcome.result()
    return answer

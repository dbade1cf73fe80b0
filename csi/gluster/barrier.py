"""What a volume must be like to be copied, and the barrier during which it is.

The barrier is gluster's own: bricks do what they are told, and keep back the answers to fsync, rename, unlink and the
like. So whoever has been told that something is safe was told before the barrier, and what depends on an answer is not
begun before it is over. A change of it that is none is refused, like one that fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from csi.core.command import Command, Script
from csi.core.errors import HostUnreachable, Unavailable
from csi.core.model import Host, Protection, Volume
from csi.gluster import parse, words
from csi.gluster.asking import Asker
from csi.gluster.envelope import Answer, Meaning
from csi.ports import Clock, Pool, Runner
from csi.tasks import together

T = TypeVar("T")

_LATE = 78  # of the verbs
_HEAL_PATIENCE = 5.0  # seconds: what is written to just now can look as if it were to be healed
_HEAL_PAUSE = 0.3
_ON = ("features.barrier", "enable")
_UNDER_WAY = ("1", "5")  # of a task: "in progress", "fix-layout in progress"


class Barrier:
    """``timeout``: seconds for a question, and for a change besides the time that it may be on."""

    def __init__(self, runner: Runner, clock: Clock, asker: Asker, timeout: float) -> None:
        self._runner = runner
        self._clock = clock
        self._asker = asker
        self._timeout = timeout

    async def unfit(self, pool: Pool, volume: Volume, hosts: Sequence[Host]) -> str:
        """Why a copy of it now would not be sound; empty if it would."""
        name = words.name(volume.gluster_name)
        answer = await self._asker.first(pool, ("volume", "status", name), self._timeout, changes=False)
        if answer.meaning is Meaning.STOPPED:
            return f"Gluster volume {name} is not started"
        document = answer.done()
        online = parse.online(document)
        down = [f"{a}:{p}" for a, p in words.bricks_of(volume, hosts) if not online.get((a, p), False)]
        if down:
            return f"bricks are down: {', '.join(down)}"
        if tasks := [kind for kind, status in parse.tasks(document) if status in _UNDER_WAY]:
            return f"gluster is at work on it: {', '.join(tasks)}"
        return ""

    async def waits_for_heal(self, pool: Pool, volume: Volume) -> str:
        if volume.spec.durability.protection is Protection.NONE:
            return ""
        deadline = self._clock.monotonic() + _HEAL_PATIENCE
        urged = False
        while True:
            pending = parse.unhealed((await self._heal(pool, volume.gluster_name, "info", "summary")).done())
            if pending == 0:
                return ""
            if pending and not urged:
                # By themselves the daemons look every ten minutes, and a client that goes within a second of its last
                # write leaves that file to them. What they say is of no matter: what they did is seen in what is left.
                await self._heal(pool, volume.gluster_name)
                urged = True
            if self._clock.monotonic() >= deadline:
                count = "some" if pending is None else pending
                return f"{count} files wait to be healed: see `gluster volume heal {volume.gluster_name} info`"
            await self._clock.sleep(_HEAL_PAUSE)

    async def _heal(self, pool: Pool, name: str, *what: str) -> Answer:
        return await self._asker.first(pool, ("volume", "heal", name, *what), self._timeout, changes=False)

    async def hold(self, pool: Pool, names: Sequence[str], bound: float) -> None:
        await self._asker.nobody_has_vanished(pool, self._timeout)
        await self._on_acting(pool, lambda host: self._hold(host, names, bound))

    async def _hold(self, host: Host, names: Sequence[str], bound: float) -> None:
        # First what will end it.
        await self._run(host, Command(("csi_barrier_watch", names[0], f"{bound:g}", *map(words.name, names))))
        if await self._switch(host, names, "enable"):
            # It may be on still, from a time that ended badly.
            await self._switch(host, names, "disable")
            if refused := await self._switch(host, names, "enable"):
                said = "; ".join(f"{name}: {answer.text}" for name, answer in refused.items())
                raise Unavailable(f"the barrier of {', '.join(names)} cannot be had: host {host.manage}: {said}")

    async def unhold(self, pool: Pool, names: Sequence[str]) -> bool:
        return await self._on_acting(pool, lambda host: self._unhold(host, names))

    async def _unhold(self, host: Host, names: Sequence[str]) -> bool:
        refused = await self._switch(host, names, "disable")
        for name, answer in refused.items():
            # It was off. Or not all hosts did it.
            if await self._is_on(host, name):
                raise Unavailable(
                    f"the barrier of {name} cannot be ended: host {host.manage}: {answer.text}; it goes on trying"
                )
        # The watch goes last.
        ended = await self._run(host, Command(("csi_barrier_unwatch", names[0]), ok=(0, _LATE)))
        return not refused and ended == 0

    async def _switch(self, host: Host, names: Sequence[str], how: str) -> dict[str, Answer]:
        """Those that refused. Nobody may have to wait for others then: writers wait too."""
        commands = [("volume", "barrier", words.name(name), how) for name in names]
        answers = await together(self._asker.ask(host, c, self._timeout, at_once=True) for c in commands)
        return {n: a for n, a in zip(names, answers, strict=True) if a.meaning is not Meaning.DONE}

    async def _is_on(self, host: Host, name: str) -> bool:
        answer = await self._asker.ask(host, ("volume", "info", words.name(name)), self._timeout, at_once=True)
        if answer.meaning is Meaning.ABSENT:
            return False
        return any(_ON in found.volume.options for found in parse.volumes(answer.done()))

    async def _run(self, host: Host, command: Command) -> int:
        (result,) = await self._runner.run(host, Script((command,), self._timeout))
        return result.status

    async def _on_acting(self, pool: Pool, call: Callable[[Host], Awaitable[T]]) -> T:
        """On the first host that answers. What one that broke off may have begun ends by itself there."""
        failure = HostUnreachable("", "the cluster has no hosts")
        for host in self._asker.in_order(pool):
            try:
                return await call(host)
            except HostUnreachable as error:
                failure = error
        raise failure

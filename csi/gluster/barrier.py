"""What a volume must be like to be copied, and the barrier during which it is.

The barrier is gluster's own: bricks do what they are told, and keep back the answers to fsync, rename, unlink and the
like. So whoever has been told that something is safe was told before the barrier, and what depends on an answer is not
begun before it is over. ``gluster`` has no XML for it. A change of it that is none is refused, like one that fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from csi.core.command import Command, Script
from csi.core.errors import CommandFailed, HostUnreachable, Unavailable
from csi.core.model import Host, Protection, Volume
from csi.gluster import parse, words
from csi.gluster.asking import Asker
from csi.gluster.envelope import Answer, Meaning
from csi.ports import Clock, Pool, Runner

_LATE = 78  # of the verbs
_HEAL_PATIENCE = 5.0  # seconds: what is written to just now can look as if it were to be healed
_HEAL_PAUSE = 0.3
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
        command = Command(("csi_barrier_on", names[0], f"{bound:g}", *map(words.name, names)))
        await self._asker.nobody_has_vanished(pool, self._timeout)
        try:
            await self._on_acting(pool, command)
        except CommandFailed as failed:
            # It may be on still, from a time that ended badly.
            await self.unhold(pool, names)
            try:
                await self._on_acting(pool, command)
            except CommandFailed as again:
                raise Unavailable(f"the barrier of {', '.join(names)} cannot be had: {_said(again)}") from failed

    async def unhold(self, pool: Pool, names: Sequence[str]) -> bool:
        command = Command(("csi_barrier_off", names[0], *map(words.name, names)), ok=(0, _LATE))
        try:
            return await self._on_acting(pool, command) == 0
        except CommandFailed as failed:
            raise Unavailable(f"the barrier cannot be ended: {_said(failed)}; the host goes on trying") from failed

    async def _on_acting(self, pool: Pool, command: Command) -> int:
        """The status on the first host that answers. What one that broke off may have begun ends by itself there."""
        failure = HostUnreachable("", "the cluster has no hosts")
        for host in self._asker.in_order(pool):
            try:
                (result,) = await self._runner.run(host, Script((command,), self._timeout))
                return result.status
            except HostUnreachable as error:
                failure = error
        raise failure


def _said(failed: CommandFailed) -> str:
    return failed.stderr.strip()[-300:] or f"status {failed.status}"

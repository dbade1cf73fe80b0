"""``ports.Gluster`` through the gluster command line of the hosts.

Each change may be said twice: "already exists", "already started" and the like are looked into, and count as done
where what is there is what was wanted. So there is one answer to a connection that breaks in the middle of a change:
say it again and let glusterd tell (``asking.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from csi.core.command import Command, Script
from csi.core.errors import (
    CommandFailed,
    DriverError,
    HostUnreachable,
    Incoherent,
    InUse,
    InvalidRequest,
    Unavailable,
)
from csi.core.model import Brick, Host, Volume
from csi.gluster import parse, words
from csi.gluster.asking import Asker
from csi.gluster.barrier import Barrier
from csi.gluster.envelope import Answer, Meaning
from csi.ports import Clock, GlusterVolume, Heard, Peer, Pool, Runner
from csi.tasks import together

_log = structlog.get_logger(__name__)

_MARKS = ("trusted.glusterfs.volume-id", "trusted.gfid")
_NO_MARK = "No such attribute"
_PROBED_ITSELF = 1  # opErrno of a probe that did nothing and was right to
_GROUPS = "/var/lib/glusterd/groups"
_MORE_STARTS = 2
_OLD_BRICKS = 1.0  # seconds for the bricks of a volume that was started a moment ago by somebody else


@dataclass(frozen=True, slots=True)
class GlusterSettings:
    """Seconds, and how many sessions are kept on each acting host."""

    sessions: int = 4
    query_timeout: float = 30.0
    change_timeout: float = 60.0  # glusterd itself waits 120 s for a peer that has vanished
    lock_patience: float = 30.0  # for a volume that others keep locked
    start_timeout: float = 30.0  # for the bricks to come up
    join_timeout: float = 15.0  # for a peer to be in the cluster, and known to all others


class _Looks:
    """Moments to look at what tells nobody that it has happened: growing pauses, until the time is over."""

    def __init__(self, clock: Clock, seconds: float, first_pause: float = 0.005) -> None:
        self._clock = clock
        self._deadline = clock.monotonic() + seconds
        self._pause = first_pause

    @property
    def over(self) -> bool:
        return self._clock.monotonic() >= self._deadline

    async def pause(self) -> None:
        await self._clock.sleep(self._pause)
        self._pause = min(self._pause * 1.5, 0.25)


class GlusterCli:
    """One for all clusters. ``heard``: of the hosts, by the same runner; without it they are asked more often."""

    def __init__(
        self,
        runner: Runner,
        clock: Clock,
        settings: GlusterSettings = GlusterSettings(),
        *,
        heard: Heard | None = None,
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._settings = settings
        self._asker = Asker(runner, clock, settings.sessions, settings.lock_patience, heard)
        self._barrier = Barrier(runner, clock, self._asker, settings.query_timeout)

    async def close(self) -> None:
        """End the sessions."""
        await self._asker.close()

    async def _query(self, pool: Pool, *command: str) -> Answer:
        return await self._asker.first(pool, command, self._settings.query_timeout, changes=False)

    async def _change(self, pool: Pool, *command: str) -> Answer:
        return await self._asker.change(pool, command, self._settings.change_timeout)

    # --- peers ------------------------------------------------------------------------------------

    async def peers(self, host: Host) -> tuple[Peer, ...]:
        answer = await self._asker.ask(host, ("peer", "status"), self._settings.query_timeout)
        return parse.peers(answer.done())

    async def probe(self, host: Host, address: str) -> None:
        probed = await self._probed(host, address)
        if probed.errno == _PROBED_ITSELF:
            return
        looks = _Looks(self._clock, self._settings.join_timeout)
        while True:
            found = [peer for peer in await self.peers(host) if address in peer.hostnames]
            if any(peer.in_cluster and peer.connected for peer in found):
                return
            if looks.over:
                lacks = "in the cluster" if any(peer.connected for peer in found) else "connected"
                raise Unavailable(
                    f"peer {address} is not {lacks}, says host {host.manage} {self._settings.join_timeout:g} s after "
                    f"its probe: look at `gluster peer status` and at glusterd.log on both"
                )
            await looks.pause()

    async def _probed(self, host: Host, address: str) -> Answer:
        command = ("peer", "probe", address)
        looks = _Looks(self._clock, self._settings.join_timeout, 0.05)
        while True:
            answer = await self._asker.ask(host, command, self._settings.change_timeout)
            if answer.meaning is Meaning.DONE:
                return answer
            # glusterd answers its own command line before it hears its peers, so a first probe may find nobody.
            if looks.over or answer.meaning not in (Meaning.DISCONNECTED, Meaning.LOCKED):
                raise answer.error()
            await looks.pause()

    # --- volumes ----------------------------------------------------------------------------------

    async def info(self, pool: Pool, name: str) -> GlusterVolume | None:
        found = await self._info(pool, name)
        return None if found is None else found.volume

    async def _info(self, pool: Pool, name: str) -> parse.VolumeInfo | None:
        answer = await self._query(pool, "volume", "info", words.name(name))
        if answer.meaning is Meaning.ABSENT:
            return None
        return next((found for found in parse.volumes(answer.done()) if found.volume.name == name), None)

    async def volumes(self, pool: Pool) -> tuple[GlusterVolume, ...]:
        answer = await self._query(pool, "volume", "info", "all")
        return tuple(found.volume for found in parse.volumes(answer.done()))

    async def create(self, pool: Pool, volume: Volume, hosts: Sequence[Host]) -> None:
        command = words.creation(volume, hosts)
        looks = _Looks(self._clock, self._settings.join_timeout)
        while (answer := await self._change(pool, *command)).meaning is not Meaning.DONE:
            marked = answer.meaning is Meaning.MARKED
            # A mark is the sign of a volume, until glusterd says that it knows of none.
            if answer.meaning is Meaning.EXISTS or (marked and await self._info(pool, volume.gluster_name) is not None):
                await self._expect(pool, volume, hosts)
                return
            # A peer that came a moment ago may not be known to all others yet.
            if looks.over or not (marked or answer.meaning is Meaning.JOINING):
                raise answer.error()
            if marked:
                await self._clear_marks(volume, hosts)
            await looks.pause()

    async def _expect(self, pool: Pool, volume: Volume, hosts: Sequence[Host]) -> None:
        """Raises: Incoherent if the volume of this name is not made of exactly these bricks."""
        found = await self._info(pool, volume.gluster_name)
        wanted = words.bricks_of(volume, hosts)
        if found is None:
            raise Unavailable(f"Gluster volume {volume.gluster_name} came and went while it was created: try again")
        if found.volume.bricks != wanted:
            raise Incoherent(
                f"Gluster volume {volume.gluster_name} is there already, with the bricks "
                f"{_listed(found.volume.bricks)} in place of {_listed(wanted)}; nothing was changed: find out whose "
                "it is"
            )

    async def _clear_marks(self, volume: Volume, hosts: Sequence[Host]) -> None:
        """Take the marks of a volume that no glusterd knows off the volume's own brick directories."""
        paths: dict[str, tuple[Host, list[str]]] = {}
        for host, brick in zip(hosts, volume.bricks, strict=True):
            paths.setdefault(host.id, (host, []))[1].append(brick.path)

        async def clear(host: Host, paths: Sequence[str]) -> None:
            # Status 1 also says that there is no such mark.
            commands = tuple(Command(("setfattr", "-x", m, path), ok=(0, 1)) for path in paths for m in _MARKS)
            results = await self._runner.run(host, Script(commands, self._settings.query_timeout))
            for command, result in zip(commands, results, strict=True):
                if result.status and _NO_MARK not in result.stderr:
                    raise CommandFailed(host.manage, command.argv, result.status, result.stderr)

        _log.info("clearing the marks of a creation that failed half-way", volume=volume.gluster_name)
        await together(clear(host, found) for host, found in paths.values())

    async def set_options(self, pool: Pool, name: str, options: Sequence[tuple[str, str]]) -> None:
        if options:
            (await self._change(pool, *words.options(name, options))).done()

    async def profile(self, pool: Pool, name: str) -> tuple[tuple[str, str], ...]:
        # Read here, not named to `volume set`: so all options of a change are one call, all of it or nothing.
        failure: DriverError = Unavailable("the cluster has no hosts that a group of options could be read on")
        for host in pool.hosts:
            try:
                script = Script(
                    (Command(("cat", f"{_GROUPS}/{words.name(name)}"), ok=(0, 1)),), self._settings.query_timeout
                )
                (result,) = await self._runner.run(host, script)
            except HostUnreachable as error:
                failure = error
                continue
            if result.status:
                raise InvalidRequest("mutable parameter profile", name, f"a file in {_GROUPS} of host {host.manage}")
            return parse.group(result.stdout)
        raise failure

    async def add_bricks(self, pool: Pool, volume: Volume, new: Sequence[tuple[Host, Brick]]) -> None:
        command = words.addition(volume, new)
        wanted = {(host.storage, brick.path) for host, brick in new}
        looks = _Looks(self._clock, self._settings.join_timeout)
        while True:
            # Asked first: gluster's refusal of bricks that are in already says nothing ("Operation failed").
            found = await self._info(pool, volume.gluster_name)
            if found is not None and wanted <= set(found.volume.bricks):
                return
            answer = await self._change(pool, *command)
            if answer.meaning is Meaning.DONE:
                return
            if looks.over or answer.meaning not in (Meaning.MARKED, Meaning.JOINING):
                raise answer.error()
            if answer.meaning is Meaning.MARKED:
                added = replace(volume, bricks=tuple(brick for _, brick in new))
                await self._clear_marks(added, [host for host, _ in new])
            await looks.pause()

    async def rebalance(self, pool: Pool, name: str) -> None:
        answer = await self._change(pool, "volume", "rebalance", words.name(name), "start")
        if answer.meaning not in (Meaning.REBALANCING, Meaning.ONE_SET):
            answer.done()

    async def rebalanced(self, pool: Pool, name: str) -> bool:
        answer = await self._query(pool, "volume", "rebalance", words.name(name), "status")
        if answer.meaning in (Meaning.REBALANCING, Meaning.LOCKED):
            return False
        state = "not started" if answer.meaning is Meaning.STOPPED else parse.rebalance(answer.done())
        if state in ("failed", "stopped", "not started"):
            _log.warning("the files of a volume have not been spread", volume=name, state=state)
            await self.rebalance(pool, name)
        return state == "completed"

    async def unhealed(self, pool: Pool, name: str) -> int | None:
        answer = await self._query(pool, "volume", "heal", words.name(name), "info", "summary")
        return None if answer.document is None else parse.unhealed(answer.document)

    async def heal(self, pool: Pool, name: str) -> None:
        # What it says depends on which daemons it reached; what they did is seen in what is left.
        await self._query(pool, "volume", "heal", words.name(name))

    async def start(self, pool: Pool, name: str, bricks: Sequence[tuple[str, str]]) -> None:
        answer = await self._try_start(pool, words.name(name))
        if answer.meaning is not Meaning.STARTED:
            answer.done()
        if answer.meaning is Meaning.STARTED:
            if not await self._offline(pool, name, bricks, _OLD_BRICKS):
                return
            # Bricks of a started volume that have died stay so until this; it weakens no check of the brick.
            (await self._change(pool, "volume", "start", name, "force")).done()
        if down := await self._offline(pool, name, bricks, self._settings.start_timeout):
            raise Unavailable(
                f"Gluster volume {name} is started, but these bricks are not online: {_listed(down)}; "
                f"look at `gluster volume status {name}` and at the bricks' logs on their hosts"
            )

    async def _try_start(self, pool: Pool, name: str) -> Answer:
        """Start it, and again if a brick could not be started.

        glusterd chooses a brick's port at random and the brick binds it a moment later: of many that are started at
        once some find theirs taken. If that is on the acting host nothing is started. On another one all bricks are
        but those of that host, and the next answer is that it is started already.
        """
        answer = await self._change(pool, "volume", "start", name)
        for _ in range(_MORE_STARTS):
            if answer.meaning is not Meaning.UNCOMMITTED:
                break
            _log.warning("a brick could not be started", volume=name, said=answer.text)
            answer = await self._change(pool, "volume", "start", name)
        return answer

    async def _offline(
        self, pool: Pool, name: str, bricks: Sequence[tuple[str, str]], seconds: float
    ) -> list[tuple[str, str]]:
        """Look until every brick is online; those that are not when the time is over."""
        looks = _Looks(self._clock, seconds)
        while True:
            online = await self._online(pool, name)
            down = [brick for brick in bricks if not online.get(brick, False)]
            # glusterd lists no brick of a peer that it does not hear: those are not waited for.
            if looks.over or not any(brick in online for brick in down):
                return down
            await looks.pause()

    async def _online(self, pool: Pool, name: str) -> Mapping[tuple[str, str], bool]:
        """Whether each brick that glusterd lists is online; none if the volume is not started on every host."""
        # The question goes to all peers, and takes the volume's lock.
        await self._asker.nobody_has_vanished(pool, self._settings.query_timeout)
        looks = _Looks(self._clock, self._settings.lock_patience)
        while (answer := await self._query(pool, "volume", "status", name)).meaning is Meaning.LOCKED:
            if looks.over:
                raise answer.error()
            await looks.pause()
        return {} if answer.meaning in (Meaning.STOPPED, Meaning.PARTLY) else parse.online(answer.done())

    async def offline_bricks(self, pool: Pool, name: str) -> tuple[str, ...] | None:
        found = await self._info(pool, name)
        if found is None:
            return None
        online = await self._online(pool, name) if found.volume.started else {}
        return tuple(f"{host}:{path}" for host, path in found.volume.bricks if not online.get((host, path), False))

    async def remove(self, pool: Pool, name: str, hosts: Sequence[Host]) -> None:
        found = await self._info(pool, name)
        if found is None:
            return
        if found.snapshots:
            raise InUse(
                f"Gluster volume {name} has {found.snapshots} snapshots that were not made by this driver: delete them "
                f"(`gluster snapshot delete volume {name}`), and its deletion goes on"
            )
        # Before its bricks are ended: a deletion that has to wait must not cost the volume its bricks meanwhile.
        await self._asker.nobody_has_vanished(pool, self._settings.query_timeout, fresh=0.0)
        await self._peers_are_up(pool, name)
        if found.volume.started:
            await self._stop(pool, name, hosts)
        answer = await self._change(pool, "volume", "delete", name)
        if answer.meaning is Meaning.PARTLY:
            # It is started on others than the acting host.
            await self._stop(pool, name, hosts, "force")
            answer = await self._change(pool, "volume", "delete", name)
        if answer.meaning is not Meaning.ABSENT:
            answer.done()

    async def unfit(self, pool: Pool, volume: Volume, hosts: Sequence[Host]) -> str:
        return await self._barrier.unfit(pool, volume, hosts)

    async def waits_for_heal(self, pool: Pool, volume: Volume) -> str:
        return await self._barrier.waits_for_heal(pool, volume)

    async def hold(self, pool: Pool, names: Sequence[str], bound: float) -> None:
        await self._barrier.hold(pool, names, bound)

    async def unhold(self, pool: Pool, names: Sequence[str]) -> bool:
        return await self._barrier.unhold(pool, names)

    async def _peers_are_up(self, pool: Pool, name: str) -> None:
        peers = await self._asker.peers(pool, self._settings.query_timeout)
        away = [peer.hostnames[0] for peer in peers if not (peer.connected and peer.in_cluster)]
        if away:
            raise Unavailable(
                f"Gluster volume {name} cannot be deleted while a peer is down ({', '.join(away)}): "
                "bring glusterd up there, or detach that peer; the deletion then goes on"
            )

    async def _stop(self, pool: Pool, name: str, hosts: Sequence[Host], *force: str) -> None:
        """The bricks end first: glusterd would sleep for a second, on one host after the other, over each of them."""

        async def end(host: Host) -> None:
            try:
                await self._runner.run(host, Script((Command(("csi_end_bricks", name)),), self._settings.query_timeout))
            except DriverError as error:
                _log.warning("bricks are left to glusterd to end", volume=name, host=host.manage, reason=str(error))

        distinct = {host.id: host for host in hosts}.values()
        await together(end(host) for host in distinct)
        answer = await self._change(pool, "volume", "stop", name, *force)
        if answer.meaning is Meaning.REBALANCING:
            # It was begun anew in between. glusterd does not reach those that have only just begun.
            await self._change(pool, "volume", "rebalance", name, "stop")
            await together(end(host) for host in distinct)
            answer = await self._change(pool, "volume", "stop", name, "force")
        if answer.meaning is Meaning.PARTLY:
            answer = await self._change(pool, "volume", "stop", name, "force")
        if answer.meaning not in (Meaning.DONE, Meaning.STOPPED, Meaning.ABSENT):
            # It stays, so it gets its bricks back.
            await self._change(pool, "volume", "start", name, "force")
            raise answer.error()


def _listed(bricks: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{address}:{path}" for address, path in bricks)

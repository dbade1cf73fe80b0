"""All bricks of one or more volumes copied as they are at one moment.

1. What waits to be written is written, while everybody goes on (``flush``): the less there is to do in 3.
2. The barrier: from here on nobody is told that a write is safe, so nobody begins what depends on that.
3. Every brick is frozen and copied, on all hosts at once; and only when all are copied they thaw.
4. The barrier ends. If a brick has gone down meanwhile, what was copied is not used.

So the copies show every write that anybody was told is safe before 2, and none that was begun after that. Of other
writes, as after a power cut, some. Steps 2 to 4 have ``bound`` seconds: after that the hosts end them by themselves,
and what was copied is not used.

Where bricks stay frozen until all are copied (``BrickCopies.holds``), step 3 alone gives that too: what depends on a
write is not begun before that write is done on all its bricks, and it is not done while one of them is frozen. A clone,
which somebody waits for, does without the barrier then; a snapshot has both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from csi.copyports import BrickCopies, Hold, Pair
from csi.core.copyidentity import PlacedCopy
from csi.core.errors import CannotCopy, DriverError, Unavailable
from csi.core.model import Backend, BrickId, ClusterId, Host, PlacedBrick, Volume
from csi.ports import Clock, Gluster, Pool
from csi.service.journal import change_of
from csi.service.steps import Steps
from csi.tasks import both, together

T = TypeVar("T")
Placed = TypeVar("Placed", PlacedBrick, PlacedCopy)
Known = Mapping[str, int]
"""By id of a copy or brick: what it takes, in bytes."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """A volume, and the target of each of its bricks."""

    volume: Volume
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """``moment``: that the copies show, in seconds since the epoch. ``done``: what was done with them gave."""

    moment: float
    done: T


@dataclass(frozen=True, slots=True)
class _Group:
    """The pairs of one host and kind of device: one round trip."""

    host: Host
    copies: BrickCopies
    pairs: tuple[Pair, ...]

    @property
    def bricks(self) -> list[PlacedBrick]:
        return [pair.brick for pair in self.pairs]


@dataclass(frozen=True, slots=True)
class Copying:
    """``bound``: seconds from barrier to barrier, at most."""

    steps: Steps
    clock: Clock
    bound: float

    @property
    def _gluster(self) -> Gluster:
        return self.steps.gluster

    def backend(self, kind: Backend) -> BrickCopies:
        """Raises: CannotCopy."""
        backend = self.steps.backends[kind]
        if not isinstance(backend, BrickCopies):
            raise CannotCopy(f"bricks on devices of kind {kind} cannot be copied in this version")
        return backend

    async def prepare(self, volumes: Sequence[Volume]) -> list[tuple[int, ...]]:
        """Flush, and look whether copies would be sound; what a copy of each brick of each would take, in bytes.

        Raises: Unavailable if they would not.
        """
        return await together([self._prepared(volume) for volume in volumes])

    async def _prepared(self, volume: Volume) -> tuple[int, ...]:
        if (change := change_of(self.steps.inventory(), volume.id)) is not None:
            raise Unavailable(
                f"volume {volume.name!r} cannot be copied now: an operation ({change.kind}) is open on it"
            )

        async def flush(
            host: Host, copies: BrickCopies, bricks: Sequence[PlacedBrick]
        ) -> tuple[bool, list[tuple[BrickId, int]]]:
            flushed = await copies.flush(host, bricks)
            return flushed.quiet, [(p.brick.id, one) for p, one in zip(bricks, flushed.taken, strict=True)]

        pool = self.steps.pool(volume.cluster_id)
        found, why = await both(
            together([flush(*group) for group in self._by_host(self.steps.placed(volume))]),
            self._unfit(volume),
        )
        if not why and not all(quiet for quiet, _ in found):
            why = await self._gluster.waits_for_heal(pool, volume)
        if why:
            raise Unavailable(f"volume {volume.name!r} cannot be copied now: {why}; ask again when that is over")
        taken = dict(entry for _, entries in found for entry in entries)
        return tuple(taken[brick.id] for brick in volume.bricks)

    async def take(
        self, name: str, tasks: Sequence[Task], then: Callable[[Known], Coroutine[Any, Any, T]], *, spare: bool = False
    ) -> Taken[T]:
        """Copy them. ``name``: of the hold on the hosts. ``then``: with the copies, beside the end of the barrier; it
        gets what is known of them already.

        ``spare``: without a barrier, if the bricks are held so that none is needed. It is half of the time.

        Raises: Unavailable if it took too long, CannotCopy, Incoherent and the errors of the hosts. What there is of
        the targets then is not to be used.
        """
        groups = self._pairs_by_host([pair for task in tasks for pair in task.pairs])
        hold = Hold(name, self.bound)
        begun = self.clock.monotonic()
        behind = () if spare and all(group.copies.holds for group in groups) else tasks
        try:
            await self._on_pools(behind, lambda pool, names: self._gluster.hold(pool, names, self.bound))
            copied = await together([group.copies.copy(group.host, group.pairs, hold) for group in groups])
        except BaseException:
            await self._let_go(behind, groups, hold)
            raise
        known = {
            _id(pair.target): size
            for group, one in zip(groups, copied, strict=True)
            if one.taken is not None
            for pair, size in zip(group.pairs, one.taken, strict=True)
        }
        held, done = await self._ended(tasks, behind, groups, hold, lambda: then(known))
        took = self.clock.monotonic() - begun
        _log.info("copied", hold=name, seconds=round(took, 3), volumes=len(tasks), hosts=len(groups))
        if not held:
            raise Unavailable(
                f"the bricks could not be copied within {self.bound:g} s (it took {took:.1f} s), so what was copied is "
                "not used: try again when there is less to be written, or raise snapshots.bound"
            )
        return Taken(min(one.moment for one in copied), done)

    async def seal(self, copies: Sequence[PlacedCopy], known: Known) -> tuple[int, ...]:
        """They are safe from a power cut; what each takes, in their order. The ``known`` ones are safe already."""
        groups = self._by_host([placed for placed in copies if placed.copy.id not in known])

        async def seal(host: Host, backend: BrickCopies, part: Sequence[PlacedCopy]) -> list[tuple[str, int]]:
            taken = await backend.seal(host, part)
            return [(placed.copy.id, one) for placed, one in zip(part, taken, strict=True)]

        found = {**known, **dict(e for entries in await together([seal(*group) for group in groups]) for e in entries)}
        return tuple(found[placed.copy.id] for placed in copies)

    async def relieve(self, name: str, volumes: Sequence[Volume]) -> None:
        """After a crash: nothing of a hold is left. Raises: the errors of the hosts."""
        hold = Hold(name, self.bound)
        # All of a host in one call: its watch goes with it, and must not go while anything is frozen.
        groups = self._by_host([placed for volume in volumes for placed in self.steps.placed(volume)])
        calls: list[Coroutine[Any, Any, object]] = [c.release(host, bricks, hold) for host, c, bricks in groups]
        calls.append(self._on_pools([Task(volume, ()) for volume in volumes], self._gluster.unhold))
        await together(calls)

    async def _ended(
        self,
        tasks: Sequence[Task],
        behind: Sequence[Task],
        groups: Sequence[_Group],
        hold: Hold,
        then: Callable[[], Coroutine[Any, Any, T]],
    ) -> tuple[bool, T]:
        """Thawed, then the barrier off; whether both had lasted until now, and what ``then`` gave."""
        try:
            thawed = all(await together([g.copies.release(g.host, g.bricks, hold) for g in groups]))
        except BaseException:
            await self._let_go(behind, groups, hold)
            raise
        ended, done = await both(self._opened(tasks, behind), then())
        return thawed and ended, done

    async def _opened(self, tasks: Sequence[Task], behind: Sequence[Task]) -> bool:
        """The barrier off; whether it was on until now.

        Raises: Unavailable if a brick has gone down since ``prepare``: its copy may lack what the others have.
        """
        ended = await self._on_pools(behind, self._gluster.unhold)
        reasons = await together(self._unfit(task.volume) for task in tasks)
        for task, why in zip(tasks, reasons, strict=True):
            if why:
                raise Unavailable(
                    f"volume {task.volume.name!r} was no longer whole when it had been copied: {why}; what was copied "
                    "is not used: ask again when that is over"
                )
        return all(ended)

    def _unfit(self, volume: Volume) -> Coroutine[Any, Any, str]:
        return self._gluster.unfit(self.steps.pool(volume.cluster_id), volume, self.steps.hosts(volume))

    async def _let_go(self, tasks: Sequence[Task], groups: Sequence[_Group], hold: Hold) -> None:
        """Whatever went wrong. Where it can't be done the host does it by itself."""
        calls: list[Coroutine[Any, Any, object]] = [g.copies.release(g.host, g.bricks, hold) for g in groups]
        calls.append(self._on_pools(tasks, self._gluster.unhold))
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, DriverError):
                _log.warning("a hold ends by itself", hold=hold.name, within=hold.bound, reason=str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _on_pools(
        self, tasks: Sequence[Task], call: Callable[[Pool, Sequence[str]], Coroutine[Any, Any, T]]
    ) -> list[T]:
        by_cluster: dict[ClusterId, list[str]] = {}
        for task in tasks:
            by_cluster.setdefault(task.volume.cluster_id, []).append(task.volume.gluster_name)
        return await together([call(self.steps.pool(cluster), names) for cluster, names in by_cluster.items()])

    def _pairs_by_host(self, pairs: Sequence[Pair]) -> list[_Group]:
        grouped: dict[tuple[str, Backend], list[Pair]] = {}
        for pair in pairs:
            grouped.setdefault((pair.brick.host.id, pair.brick.device.backend), []).append(pair)
        return [_Group(group[0].brick.host, self.backend(kind), tuple(group)) for (_, kind), group in grouped.items()]

    def _by_host(self, placed: Sequence[Placed]) -> list[tuple[Host, BrickCopies, list[Placed]]]:
        return by_host(placed, self.backend)


def by_host(
    placed: Sequence[Placed], backend: Callable[[Backend], BrickCopies]
) -> list[tuple[Host, BrickCopies, list[Placed]]]:
    """One entry, and so one round trip, per host and kind of device."""
    groups: dict[tuple[str, Backend], list[Placed]] = {}
    for one in placed:
        groups.setdefault((one.host.id, one.device.backend), []).append(one)
    return [(group[0].host, backend(kind), group) for (_, kind), group in groups.items()]


def _id(target: PlacedCopy | PlacedBrick) -> str:
    return target.brick.id if isinstance(target, PlacedBrick) else target.copy.id

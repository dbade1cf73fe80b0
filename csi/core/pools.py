"""Thin pools: what is known of them beyond the records, and when one is too full for anything new.

A pool of ours can hold all that its volumes may come to hold, so one that is full of data is no trouble: its file
systems are full. Pools with copies that somebody made by hand, or that Heketi made, can't: one of these that is full
stalls all that is in it. Metadata that is full damages a pool whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from csi.core import sizes
from csi.core.model import Brick, BrickId, DeviceId, PoolSize


@dataclass(frozen=True, slots=True)
class PoolFullness:
    """A thin pool with bricks of ours in it. ``data`` and ``metadata``: how much of them is taken, in percent.

    Sizes in bytes. ``promised`` is what all that is in it may come to hold; ``room`` what its volume group has left.
    """

    device: DeviceId
    name: str  # of the logical volume
    bricks: tuple[BrickId, ...]  # in order of their names, at least one
    copies: tuple[BrickId, ...]
    volumes: tuple[str, ...]  # the CSI names of whose bricks these are
    data: float
    metadata: float
    size: int
    metadata_size: int
    promised: int
    room: int

    @property
    def fullest(self) -> float:
        return max(self.data, self.metadata)

    @property
    def is_overcommitted(self) -> bool:
        return self.promised > self.size

    def __str__(self) -> str:
        volumes = ", ".join(map(repr, self.volumes))
        return (
            f"thin pool {self.name} of volume {volumes} (brick {', '.join(self.bricks)}) has its data at "
            f"{int(self.data)} % and its metadata at {int(self.metadata)} %"
        )


@dataclass(frozen=True, slots=True)
class Slack:
    """Bytes that a pool has beyond what is promised in it. ``members``: the bricks and copies in it."""

    members: Set[BrickId]
    size: int


@dataclass(frozen=True, slots=True)
class GroupFullness:
    """The volume group of a device. ``taken``: bytes of what bricks may use that are in its volumes, whosever.

    A pool outlives its brick while copies are in it, and keeps what it was enlarged by for copies that are gone: no
    record counts either.
    """

    device: DeviceId
    taken: int
    pools: tuple[PoolFullness, ...] = ()
    slack: tuple[Slack, ...] = ()


class Refusing(StrEnum):
    """Which pools that are full of data take nothing new."""

    OVERCOMMITTED = "over-committed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class PoolLimit:
    """``percent`` of data or metadata from which a pool is told of."""

    percent: float = 80.0
    refusing: Refusing = Refusing.OVERCOMMITTED

    def counts(self, pool: PoolFullness) -> bool:
        """Its data does."""
        return self.refusing is Refusing.ALL or pool.is_overcommitted

    def reached(self, pool: PoolFullness) -> bool:
        return pool.fullest >= self.percent

    def closes(self, pool: PoolFullness) -> bool:
        """It is in trouble, or will be, and nothing new goes there."""
        return pool.metadata >= self.percent or (self.counts(pool) and pool.data >= self.percent)

    def explain(self, pool: PoolFullness) -> str:
        """Of one that reaches the limit: how full it is, what that means, what is to be done."""
        if not self.closes(pool):
            return f"{pool}; it can hold all that is in it, so nothing but its file system gets full: expand the volume"
        more = f", and {pool.promised - pool.size} bytes less than is promised in it" if pool.is_overcommitted else ""
        return (
            f"{pool}, with {self.percent:g} % as the limit{more}: delete snapshots in it (`lvs` shows also those that "
            "others made), or extend the pool (bricks.pool_autoextend_threshold)"
        )


def closed(pools: Iterable[PoolFullness], limit: PoolLimit) -> dict[DeviceId, str]:
    """The devices on which nothing new is placed, and why."""
    reasons: dict[DeviceId, list[str]] = {}
    for pool in pools:
        if limit.closes(pool):
            reasons.setdefault(pool.device, []).append(limit.explain(pool))
    return {device: "; ".join(sorted(told)) for device, told in reasons.items()}


@dataclass(frozen=True, slots=True)
class Autoextend:
    """As LVM's ``thin_pool_autoextend_*``: from ``threshold`` percent on, ``step`` percent more; 100: never."""

    limit: PoolLimit
    threshold: float = 100.0
    step: float = 20.0

    @property
    def is_on(self) -> bool:
        return self.threshold < 100

    def is_due(self, pool: PoolFullness) -> bool:
        data = pool.data >= self.threshold and self.limit.counts(pool)
        return self.is_on and (data or pool.metadata >= self.threshold)

    def wanted(self, pool: PoolFullness, capacity: int, free: int) -> PoolSize | None:
        """What the pool shall have; None if it is not due, or nothing of ``free`` is left for it.

        ``capacity``: of its device. Metadata comes first: without it the data is lost.
        """
        data = metadata = 0
        if pool.metadata >= self.threshold:
            most = min(_more(pool.metadata_size, self.step), sizes.largest_metadata(capacity) - pool.metadata_size)
            metadata = sizes.round_down(max(0, min(most, free)))
        if pool.data >= self.threshold and self.limit.counts(pool):
            more = _more(pool.size, self.step)
            if pool.is_overcommitted and self.limit.refusing is Refusing.OVERCOMMITTED:
                more = min(more, sizes.round_up(pool.promised - pool.size))
            data = sizes.round_down(max(0, min(more, free - metadata)))
        if not data + metadata:
            return None
        return PoolSize(pool.bricks[0], pool.size + data, pool.metadata_size + metadata)


def _more(size: int, percent: float) -> int:
    return sizes.round_up(int(size * percent / 100))


def growth(pool: PoolFullness, wanted: PoolSize) -> int:
    """What its device loses, in bytes."""
    return wanted.data - pool.size + wanted.metadata - pool.metadata_size


def with_pool(brick: Brick, more: int) -> Brick:
    """The brick whose pool was extended: what it takes from its device is told of it."""
    return replace(brick, footprint=brick.footprint + more)

"""Thin pools: what is known of them beyond the records, and when one is too full for anything new.

A pool of ours can hold all that its volumes may come to hold, so one that is full of data is no trouble: its file
systems are full. Pools with copies that somebody made by hand, or that Heketi made, can't: one of these that is full
stalls all that is in it. Metadata that is full damages a pool whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from csi.core.model import BrickId, DeviceId


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


class Refusing(StrEnum):
    """Which pools that are full of data take nothing new."""

    OVERCOMMITTED = "over-committed"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class PoolLimit:
    """``percent`` of data or metadata from which a pool is told of."""

    percent: float = 80.0
    refusing: Refusing = Refusing.OVERCOMMITTED

    def reached(self, pool: PoolFullness) -> bool:
        return pool.fullest >= self.percent

    def closes(self, pool: PoolFullness) -> bool:
        """It is in trouble, or will be, and nothing new goes there."""
        counts = self.refusing is Refusing.ALL or pool.is_overcommitted
        return pool.metadata >= self.percent or (counts and pool.data >= self.percent)

    def explain(self, pool: PoolFullness) -> str:
        """Of one that reaches the limit: how full it is, what that means, what is to be done."""
        if not self.closes(pool):
            return f"{pool}; it can hold all that is in it, so nothing but its file system gets full: expand the volume"
        more = f", and {pool.promised - pool.size} bytes less than is promised in it" if pool.is_overcommitted else ""
        return (
            f"{pool}, with {self.percent:g} % as the limit{more}: delete snapshots in it (`lvs` shows also those that "
            "others made), or extend the pool (bricks.pool_extend_step)"
        )


def closed(pools: Iterable[PoolFullness], limit: PoolLimit) -> dict[DeviceId, str]:
    """The devices on which nothing new is placed, and why."""
    reasons: dict[DeviceId, list[str]] = {}
    for pool in pools:
        if limit.closes(pool):
            reasons.setdefault(pool.device, []).append(limit.explain(pool))
    return {device: "; ".join(sorted(told)) for device, told in reasons.items()}

"""How full volume groups and their thin pools are, looked at from time to time.

A pool that is full stalls its brick, full metadata damages it; and a group may hold more than the records count. Kept
in memory alone: what counts is what the hosts say now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from csi.core import pools
from csi.core.errors import DriverError, NoRoom
from csi.core.inventory import Inventory
from csi.core.model import Backend, BrickId, Device, DeviceId, Host, HostId
from csi.core.pools import GroupFullness, PoolFullness, PoolLimit
from csi.ports import Clock, Store
from csi.tasks import together

_log = structlog.get_logger(__name__)


class PoolGauge(Protocol):
    async def fullness(self, host: Host, devices: Sequence[Device]) -> tuple[GroupFullness, ...]:
        """Of the volume group of each of these devices. Raises: as BrickBackend's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A pool and where it is."""

    host: str
    device: str
    pool: PoolFullness
    stale: bool = False  # the host did not answer at the last look


@dataclass(frozen=True, slots=True)
class Health:
    """The pools of a device that reach the limit. ``crossed``: those of which that was not told before.

    ``unrecorded``: bytes of it that are taken though no record counts them.
    """

    device: Device
    full: tuple[PoolFullness, ...]
    crossed: tuple[PoolFullness, ...]
    limit: PoolLimit
    unrecorded: int = 0


class Fullness:
    """Looks every ``interval`` seconds; tells of a pool that reaches the limit, once until it falls below.

    Once more if it was harmless then, and is not any more.
    """

    def __init__(self, gauge: PoolGauge, clock: Clock, store: Store, interval: float, limit: PoolLimit) -> None:
        self._gauge = gauge
        self._clock = clock
        self._store = store
        self._interval = interval
        self.limit = limit
        self._told: dict[str, bool] = {}  # by name of the pool: whether it was said to take nothing new
        self._listeners: list[Callable[[Health], None]] = []
        self._then: Callable[[], Awaitable[bool]] | None = None
        self.measured: tuple[Measured, ...] = ()
        self._closing: tuple[Measured, ...] = ()
        self._closed: Mapping[DeviceId, str] = {}
        self._groups: Mapping[DeviceId, GroupFullness] = {}
        self._unrecorded: Mapping[DeviceId, int] = {}

    def figures(self) -> tuple[Measured, ...]:
        """What was measured last."""
        return self.measured

    def closed(self) -> Mapping[DeviceId, str]:
        """The devices on which nothing new is placed, and why."""
        return self._closed

    def check(self, parts: Iterable[BrickId], what: str) -> None:
        """Whether ``what``, which takes more of the pools of these bricks and copies, may be begun. Raises: NoRoom."""
        asked = set(parts)
        for one in self._closing:
            if not asked.isdisjoint((*one.pool.bricks, *one.pool.copies)):
                raise NoRoom(f"no {what} now: on {one.host}:{one.device}, {self.limit.explain(one.pool)}")

    def taken(self, parts: Iterable[BrickId] = ()) -> Mapping[DeviceId, int]:
        """Bytes of each device that are not free though no record counts them: for what comes into the pools of these
        bricks and copies, without what is to spare in those.
        """
        asked = set(parts)
        taken = dict(self._unrecorded)
        if asked:
            for device_id, group in self._groups.items():
                spare = sum(slack.size for slack in group.slack if not asked.isdisjoint(slack.members))
                taken[device_id] = max(0, taken.get(device_id, 0) - spare)
        return taken

    def listen(self, heed: Callable[[Health], None]) -> None:
        """``heed`` is told of each device at each look. It must not wait."""
        self._listeners.append(heed)

    def then(self, act: Callable[[], Awaitable[bool]]) -> None:
        """What is done after each look; whether anything was."""
        self._then = act

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.round()
            await self._clock.sleep(self._interval)

    async def round(self) -> None:
        """Look, act, and look again if that changed anything."""
        await self.look()
        if self._then is not None and await self._then():
            await self.look()

    async def look(self) -> None:
        """Ask all hosts with volume groups at once. What does not answer keeps what was measured last."""
        inventory = self._store.inventory
        devices: dict[HostId, list[Device]] = {}
        for device in inventory.devices.values():
            if device.backend is Backend.LVM:
                devices.setdefault(device.host_id, []).append(device)
        answers = await together([self._of_host(inventory.hosts[on], there) for on, there in devices.items()])
        silent = {on for on, answer in zip(devices, answers, strict=True) if answer is None}
        fresh = {group.device: group for answer in answers for group in answer or ()}
        asked = [device for there in devices.values() for device in there]
        self._groups = {
            device.id: group for device in asked if (group := fresh.get(device.id) or self._groups.get(device.id))
        }
        self._count(fresh.values(), inventory, self._store.inventory)
        self.measured = tuple(
            Measured(inventory.hosts[device.host_id].manage, device.path, pool, stale=device.host_id in silent)
            for device in asked
            if device.id in self._groups
            for pool in self._groups[device.id].pools
        )
        # Asked for at each placement, and pools are many.
        self._closing = tuple(one for one in self.measured if self.limit.closes(one.pool))
        self._closed = pools.closed((one.pool for one in self._closing), self.limit)
        of_device: dict[DeviceId, list[Measured]] = {}
        for one in self.measured:
            of_device.setdefault(one.pool.device, []).append(one)
        for device in asked:
            self._tell(device, of_device.get(device.id, []))
        for gone in self._told.keys() - {one.pool.name for one in self.measured}:
            del self._told[gone]

    def _count(self, groups: Iterable[GroupFullness], before: Inventory, after: Inventory) -> None:
        """What these groups hold beyond the records, as they were before and after the look.

        What comes is recorded before it is made, and what goes is forgotten after it is gone: so the larger of the two
        has all that was seen, unless both happened at once on a device. Then it seems fuller until the next look.
        """
        known = {device: by for device, by in self._unrecorded.items() if device in self._groups}
        for group in groups:
            recorded = max(inventory.used.get(group.device, 0) for inventory in (before, after))
            known[group.device] = max(0, group.taken - recorded)
        self._unrecorded = known

    async def _of_host(self, host: Host, devices: list[Device]) -> tuple[GroupFullness, ...] | None:
        try:
            return await self._gauge.fullness(host, devices)
        except DriverError as error:
            _log.warning("thin pools can't be looked at", host=host.manage, error=str(error))
            return None

    def _tell(self, device: Device, there: Sequence[Measured]) -> None:
        crossed = []
        for one in there:
            if not self.limit.reached(one.pool):
                self._told.pop(one.pool.name, None)
            elif self._told.get(one.pool.name) not in (True, self.limit.closes(one.pool)):
                self._told[one.pool.name] = self.limit.closes(one.pool)
                crossed.append(one.pool)
                _log.warning(
                    "a thin pool is nearly full",
                    host=one.host,
                    device=one.device,
                    pool=one.pool.name,
                    volumes=one.pool.volumes,
                    data_percent=one.pool.data,
                    metadata_percent=one.pool.metadata,
                    reason=self.limit.explain(one.pool),
                )
        full = tuple(one.pool for one in there if self.limit.reached(one.pool))
        health = Health(device, full, tuple(crossed), self.limit, self._unrecorded.get(device.id, 0))
        for heed in self._listeners:
            heed(health)

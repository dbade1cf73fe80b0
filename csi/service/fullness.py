"""How full the thin pools are, looked at from time to time: a full one stalls its brick, full metadata damages it.

Kept in memory alone: what counts is what the hosts say now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from csi.core.errors import DriverError
from csi.core.model import Backend, BrickId, Device, Host, HostId
from csi.core.pools import PoolFullness
from csi.ports import Clock, Store

_log = structlog.get_logger(__name__)


class PoolGauge(Protocol):
    async def fullness(self, host: Host, devices: Sequence[Device]) -> tuple[PoolFullness, ...]:
        """Of the pools of our bricks on these devices. Raises: as BrickBackend's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A pool and where it is."""

    host: str
    device: str
    pool: PoolFullness


class Fullness:
    """Looks every ``interval`` seconds; tells of a pool that reaches ``limit`` percent, once until it falls below."""

    def __init__(self, gauge: PoolGauge, clock: Clock, store: Store, interval: float, limit: float) -> None:
        self._gauge = gauge
        self._clock = clock
        self._store = store
        self._interval = interval
        self._limit = limit
        self._told: set[BrickId] = set()
        self.measured: tuple[Measured, ...] = ()

    def figures(self) -> tuple[Measured, ...]:
        """What was measured last."""
        return self.measured

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(self._interval)

    async def look(self) -> None:
        """Ask all hosts with volume groups at once. What does not answer keeps what was measured last."""
        inventory = self._store.inventory
        devices: dict[HostId, list[Device]] = {}
        for device in inventory.devices.values():
            if device.backend is Backend.LVM:
                devices.setdefault(device.host_id, []).append(device)
        found = await asyncio.gather(*(self._of_host(inventory.hosts[on], there) for on, there in devices.items()))
        self.measured = tuple(one for of_host in found for one in of_host)
        for one in self.measured:
            self._tell(one)

    async def _of_host(self, host: Host, devices: list[Device]) -> list[Measured]:
        try:
            pools = await self._gauge.fullness(host, devices)
        except DriverError as error:
            _log.warning("thin pools can't be looked at", host=host.manage, error=str(error))
            return [one for one in self.measured if one.host == host.manage]
        paths = {device.id: device.path for device in devices}
        return [Measured(host.manage, paths[pool.device], pool) for pool in pools]

    def _tell(self, one: Measured) -> None:
        fullest = max(one.pool.data, one.pool.metadata)
        if fullest < self._limit:
            self._told.discard(one.pool.brick)
        elif one.pool.brick not in self._told:
            self._told.add(one.pool.brick)
            _log.warning(
                "a thin pool is nearly full",
                host=one.host,
                device=one.device,
                brick=one.pool.brick,
                data_percent=one.pool.data,
                metadata_percent=one.pool.metadata,
                remedy="expand the volume, or delete snapshots of it",
            )

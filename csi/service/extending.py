"""Thin pools get larger by themselves, where an administrator wants it (``bricks.pool_autoextend_threshold``).

Each extension is a change of the volume whose brick is the first in the pool: a line of the journal before anything is
done, with the sizes that the pools shall have, and the bricks taking so much more from their devices. What was
interrupted is finished by recovery; the sizes are absolute, so nothing is done twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from csi.core import pools
from csi.core.errors import Busy, DriverError
from csi.core.model import BrickId, DeviceId, Operation, OperationKind, PoolSize, Volume, VolumeId, VolumeState
from csi.core.pools import Autoextend, PoolFullness
from csi.service.changing import Changing
from csi.service.placing import Placing

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Extending:
    changing: Changing
    placing: Placing
    rule: Autoextend

    async def look(self) -> bool:
        """Extend what is due by the figures of the last look; whether anything was. What fails is logged."""
        due = [one.pool for one in self.placing.pools.measured if not one.stale and self.rule.is_due(one.pool)]
        spent: Counter[DeviceId] = Counter()  # since that look, of the room of their groups
        done = False
        for volume_id, of_volume in self._by_volume(due).items():
            work = partial(self._extend, volume_id, of_volume, spent)
            try:
                done |= await self.changing.operations.run(volume_id, OperationKind.EXTEND, "watch", work)
            except Busy:
                continue  # at the next look
            except DriverError as error:
                _log.warning("thin pools are not extended yet", volume=volume_id, error=str(error))
        return done

    def _by_volume(self, due: Iterable[PoolFullness]) -> dict[VolumeId, list[PoolFullness]]:
        if not due:
            return {}
        volumes = self.changing.journal.inventory.volumes.values()
        owner = {b.id: v.id for v in volumes if v.state is VolumeState.READY for b in v.bricks}
        found: dict[VolumeId, list[PoolFullness]] = {}
        for pool in due:
            # The first of its bricks that is recorded: one that is being made is not yet.
            if (brick := next((brick for brick in pool.bricks if brick in owner), None)) is not None:
                first = (brick, *(other for other in pool.bricks if other != brick))
                found.setdefault(owner[brick], []).append(replace(pool, bricks=first))
        return found

    async def _extend(self, volume_id: VolumeId, due: list[PoolFullness], spent: Counter[DeviceId]) -> bool:
        if self.changing.journal.change_of(volume_id) is not None:
            return False  # it has its own way to its end
        async with self.placing.lock:
            begun = await self._begin(self.changing.volume(volume_id), due, spent)
        if begun is None:
            return False
        volume = await self.changing.finish(begun)
        _log.info("thin pools extended", volume=volume.name, pools={one.brick: one.data for one in begun.pools})
        return True

    async def _begin(self, volume: Volume, due: list[PoolFullness], spent: Counter[DeviceId]) -> Operation | None:
        """Decide and reserve. The lock is held."""
        inventory = self.changing.journal.inventory
        taken: Counter[DeviceId] = Counter()
        wanted: list[PoolSize] = []
        more: dict[BrickId, int] = {}
        for pool in due:
            device = inventory.devices[pool.device]
            free = min(inventory.free(device) - taken[device.id], pool.room - spent[device.id])
            size = self.rule.wanted(pool, device.total, free)
            if size is None:
                _log.warning("no room to extend a thin pool", pool=pool.name, device=device.path, free=free)
                continue
            wanted.append(size)
            more[size.brick] = pools.growth(pool, size)
            taken[device.id] += more[size.brick]
            spent[device.id] += more[size.brick]
        if not wanted:
            return None
        bricks = tuple(pools.with_pool(b, more[b.id]) if b.id in more else b for b in volume.bricks)
        return await self.changing.journal.begin_extend(volume, replace(volume, bricks=bricks), wanted)

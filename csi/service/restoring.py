"""Volumes that begin as copies: of a snapshot, or of another volume as it is now.

Either way the new bricks are copies of their own, so nothing depends on what they were made of once they are there.
A snapshot does not change: what was interrupted goes on. A volume does: copies that were not all made together are of
no use, and are undone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from csi.copyports import Filling, Pair
from csi.core import naming
from csi.core.copies import Origin, restored
from csi.core.copyidentity import CopyIdentity, PlacedCopy
from csi.core.errors import Busy, Incoherent, NotFound
from csi.core.inventory import Inventory
from csi.core.model import (
    Copy,
    Device,
    Host,
    PlacedBrick,
    Snapshot,
    SnapshotId,
    SnapshotState,
    Source,
    SourceKind,
    Step,
    Volume,
    VolumeId,
    VolumeSpec,
    VolumeState,
)
from csi.ports import Clock
from csi.service.copying import Copying, Known, Task, by_host
from csi.service.journal import CHANGES
from csi.service.operations import Operations
from csi.service.steps import Deed, Steps
from csi.tasks import together

T = TypeVar("T")
COPYING = "copy"  # the word for it among the operations on a volume
_PAUSE = 0.02  # seconds


def place(snapshot: Snapshot, instance: str, inventory: Inventory) -> tuple[PlacedCopy, ...]:
    """The copies with the records that they stand on, in their order."""

    def placed(copy: Copy) -> PlacedCopy:
        host, device = where(copy, inventory)
        return PlacedCopy(_identity(snapshot, copy, instance), host, device)

    return tuple(placed(copy) for copy in snapshot.copies)


def where(copy: Copy, inventory: Inventory) -> tuple[Host, Device]:
    return inventory.hosts[copy.host_id], inventory.devices[copy.device_id]


def _identity(snapshot: Snapshot, copy: Copy, instance: str) -> CopyIdentity:
    return CopyIdentity(
        instance=instance,
        snapshot_id=snapshot.id,
        snapshot_name=snapshot.name,
        volume_id=snapshot.volume_id,
        volume_name=snapshot.volume_name,
        cluster_id=snapshot.cluster_id,
        volume_size=snapshot.size,
        spec=snapshot.spec,
        gid=snapshot.gid,
        # What it takes is known only when it is there, and can be seen then.
        copy=replace(copy, footprint=0),
        group_id=snapshot.group_id,
        group_name=snapshot.group_name,
        total=len(snapshot.copies),
    )


@dataclass(frozen=True, slots=True)
class Turns:
    """Volumes whose bricks are being copied: one at a time, and nothing else is done to them meanwhile."""

    operations: Operations
    clock: Clock
    patience: float = 30.0  # seconds that one waits for another

    async def holding(self, volumes: Sequence[VolumeId], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Raises: Busy if something else is being done to one of them, or for too long."""
        if not volumes:
            return await work()
        first, rest = volumes[0], volumes[1:]

        async def inner() -> T:
            return await self.holding(rest, work)

        deadline = self.clock.monotonic() + self.patience
        while True:
            try:
                return await self.operations.run(first, COPYING, object(), inner)
            except Busy:
                if not self.operations.is_running(first, COPYING) or self.clock.monotonic() > deadline:
                    raise
            await self.clock.sleep(_PAUSE)


@dataclass(frozen=True, slots=True)
class Restoring:
    copying: Copying
    turns: Turns

    @property
    def _steps(self) -> Steps:
        return self.copying.steps

    def join(self, further: dict[Step, Deed], back: dict[Step, Deed]) -> None:
        """Say what those words of a plan mean that are told of here, and what is to be undone of them."""
        further |= {
            Step.COPY_VOLUME: self._copy_volume,
            Step.FILL_FROM_SNAPSHOT: self._fill,
            Step.MAKE_FROM_COPIES: self._adopt,
        }
        back[Step.COPY_VOLUME] = self._relieve

    # --- planning -----------------------------------------------------------------------------

    def origin(self, source: Source) -> Origin:
        """Raises: NotFound, and Busy while it comes or goes."""
        inventory = self._steps.inventory()
        if source.kind is SourceKind.VOLUME:
            return Origin.of(source, live_volume(inventory, source.id))
        snapshot = inventory.snapshots.get(SnapshotId(source.id))
        if snapshot is None:
            raise NotFound("snapshot", source.id)
        if snapshot.state is not SnapshotState.READY:
            raise Busy(f"snapshot {snapshot.name!r} is {snapshot.state}: ask again when that is done")
        return Origin.of(source, snapshot)

    def plan(
        self,
        inventory: Inventory,
        source: Source,
        *,
        volume: VolumeId,
        name: str,
        size: tuple[int, int],
        spec: VolumeSpec,
    ) -> tuple[Volume, bool]:
        """What the new volume will be, and whether its bricks have to grow. Raises: as ``core.copies.restored``."""
        origin = self.origin(source)
        made = restored(inventory, origin, volume=volume, name=name, size=size, spec=spec)
        return made, [part.size for part in origin.parts] != [brick.size for brick in made.bricks]

    # --- doing --------------------------------------------------------------------------------

    async def _copy_volume(self, volume: Volume) -> None:
        """All bricks of the source, under a barrier, as bricks of the new volume."""
        assert volume.source is not None
        source = live_volume(self._steps.inventory(), volume.source.id)

        async def work() -> None:
            present = live_volume(self._steps.inventory(), source.id)
            if [(b.set, b.index, b.device_id) for b in present.bricks] != [
                (b.set, b.index, b.device_id) for b in volume.bricks
            ]:
                raise Busy(f"volume {present.name!r} has other bricks than a moment ago: ask again")
            await self.copying.prepare([present])
            targets = self._steps.placed(volume)
            pairs = tuple(Pair(b, t) for b, t in zip(self._steps.placed(present), targets, strict=True))

            async def make(_: Known) -> None:
                await self._adopt(volume)

            await self.copying.take(volume.id, [Task(present, pairs)], make, spare=True)

        await self.turns.holding([source.id], work)

    async def _relieve(self, volume: Volume) -> None:
        """The copying may have been cut short by our end."""
        assert volume.source is not None
        source = self._steps.inventory().volumes.get(VolumeId(volume.source.id))
        if source is not None and source.state is VolumeState.READY and not self.turns.operations.is_running(source.id):
            await self.copying.relieve(volume.id, [source])

    async def _fill(self, volume: Volume) -> None:
        assert volume.source is not None
        inventory = self._steps.inventory()
        snapshot = inventory.snapshots.get(SnapshotId(volume.source.id))
        if snapshot is None:
            raise Incoherent(f"volume {volume.name!r} is being made of snapshot {volume.source.id}, which is gone")
        copies = place(snapshot, self._steps.instance, inventory)
        by_brick = {
            placed.brick.id: Filling(copy, placed)
            for copy, placed in zip(copies, self._steps.placed(volume), strict=True)
        }

        async def fill(host: Host, bricks: Sequence[PlacedBrick]) -> None:
            backend = self.copying.backend(bricks[0].device.backend)
            await backend.fill(host, [by_brick[placed.brick.id] for placed in bricks])

        await together([fill(host, bricks) for host, _, bricks in self._steps.by_host(volume)])

    async def _adopt(self, volume: Volume) -> None:
        groups = by_host(self._steps.placed(volume), self.copying.backend)
        await together([backend.adopt(host, bricks) for host, backend, bricks in groups])


def live_volume(inventory: Inventory, volume_id: str) -> Volume:
    """Raises: NotFound, Busy while it is being deleted."""
    volume = inventory.volumes.get(VolumeId(volume_id))
    if volume is None:
        raise NotFound("volume", volume_id)
    if volume.state is VolumeState.DELETING:
        raise Busy(f"volume {volume.name!r} is being deleted, so no copy of it is made any more")
    if volume.regroup_from is not None:
        raise Busy(f"volume {volume.name!r} is not done yet, its files get another group: ask again when that is done")
    for kind in CHANGES:
        if (change := inventory.operations.get(naming.operation_id(kind, volume.id))) is not None:
            why = f": {change.error}" if change.error else ""
            raise Busy(f"volume {volume.name!r} is being changed{why}; ask again when that is done")
    return volume

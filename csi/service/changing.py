"""A volume that is being changed: carried out to its end, and what gluster still has to do afterwards.

A change goes forward only. One that fails stays in the journal and is finished by a retry or by recovery; until then
the volume is told as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from csi.core.errors import Busy, NotFound, Unavailable
from csi.core.model import Operation, OperationKind, Volume, VolumeId, VolumeState
from csi.ports import Pool
from csi.service.journal import Journal
from csi.service.operations import Operations
from csi.service.steps import Steps


@dataclass(frozen=True, slots=True)
class Changing:
    journal: Journal
    steps: Steps
    operations: Operations

    def volume(self, known: VolumeId) -> Volume:
        """Raises: NotFound, also for a volume that is being deleted."""
        volume = self.journal.inventory.volumes.get(known)
        if volume is None or volume.state is VolumeState.DELETING:
            raise NotFound("volume", known)
        return volume

    async def finish(self, begun: Operation) -> Volume:
        """Raises: Unavailable, whatever it was: it is not over before it is done."""
        try:
            await self.steps.apply(begun)
        except Exception as error:
            await self.journal.note(begun, str(error))
            raise Unavailable(
                f"volume {begun.volume.name!r} is being {_told(begun)}; that waits and is tried again: {error}"
            ) from error
        return await self.journal.finish_change(begun)

    async def resume(self, operation: Operation) -> None:
        """Finish one that nobody waits for."""

        async def work() -> None:
            if (begun := self.journal.change_of(operation.volume.id)) is not None:
                await self.finish(begun)

        await self.operations.run(operation.volume.id, operation.kind, "recovery", work)

    def check_free_for(self, volume: Volume, wanted: Volume) -> None:
        """Raises: Busy if the volume would get bricks while gluster moves its files: it refuses that."""
        more = len(wanted.bricks) > len(volume.bricks)
        if more and self.journal.find(OperationKind.REBALANCE, volume.id) is not None:
            raise Busy(f"the files of volume {volume.name!r} are being spread over its bricks: ask again later")

    async def watch(self, operation: Operation) -> None:
        """Close what gluster has done meanwhile. Raises: Busy while it has not."""
        pool, name = Pool.of(self.journal.inventory, operation.volume.cluster_id), operation.volume.gluster_name
        if operation.kind is OperationKind.REBALANCE:
            if not await self.steps.gluster.rebalanced(pool, name):
                raise Busy(f"the files of volume {operation.volume.name!r} are being spread over its bricks")
        elif (left := await self.steps.gluster.unhealed(pool, name)) != 0:
            # A daemon that looked before the new brick was marked would not look again for minutes.
            await self.steps.gluster.heal(pool, name)
            raise Busy(
                f"volume {operation.volume.name!r} is being healed, {'?' if left is None else left} entries left"
            )
        present = self.journal.inventory.operations.get(operation.id)
        if present is not None:
            await self.journal.close(present)


def _told(begun: Operation) -> str:
    match begun.kind:
        case OperationKind.EXPAND:
            return f"expanded to {begun.volume.size} bytes"
        case OperationKind.EXTEND:
            return "given more room in its thin pools"
        case OperationKind.REGROUP:
            return f"regrouped to GID {begun.volume.gid}"
        case _:
            return "modified"

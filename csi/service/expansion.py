"""Volumes get larger while they are in use: their bricks grow where they are.

An expansion goes forward only, since XFS does not shrink: one that fails stays in the journal, keeps its space, and is
finished by a retry or by recovery. Until then the volume is told with its old size. A later, smaller request takes its
place: then only what has grown already stays as large as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from csi.core import growth, naming, sizes
from csi.core.errors import NotFound, SizeOutOfRange, Unavailable
from csi.core.model import Brick, BrickId, Operation, OperationKind, Volume, VolumeId, VolumeState
from csi.service.journal import Journal
from csi.service.operations import Operations
from csi.service.placing import Placing
from csi.service.steps import Steps


@dataclass(frozen=True, slots=True)
class ExpandRequest:
    """``required`` and ``limit`` in bytes, 0 where the caller does not care."""

    volume_id: str
    required: int
    limit: int


@dataclass(frozen=True, slots=True)
class Expansion:
    journal: Journal
    steps: Steps
    operations: Operations
    placing: Placing

    async def expand(self, request: ExpandRequest) -> Volume:
        """The volume with at least ``required`` bytes; its bricks are that large when this returns.

        Raises: NotFound, SizeOutOfRange (also: larger than ``limit`` already), NoSpace with the largest size, Busy,
        and Unavailable while a host is away: what was begun is finished when it is back.
        """
        if not naming.is_id(request.volume_id):
            raise NotFound("volume", request.volume_id)
        known = VolumeId(request.volume_id)
        return await self.operations.run(known, OperationKind.EXPAND, request, lambda: self._expand(known, request))

    async def _expand(self, known: VolumeId, request: ExpandRequest) -> Volume:
        volume = self._volume(known)
        size = sizes.choose(request.required, request.limit)
        if (begun := self.journal.find(OperationKind.EXPAND, known)) is not None and request.required > volume.size:
            volume = await self._finish(await self._revised(begun, size))
        if request.limit and volume.size > request.limit:
            raise SizeOutOfRange(
                f"capacity_range.limit_bytes: volume {volume.name!r} has {volume.size} bytes, more than"
                f" {request.limit}: a volume does not shrink"
            )
        if volume.size >= request.required:
            return volume
        return await self._finish(await self._begin(volume, size))

    def _volume(self, known: VolumeId) -> Volume:
        volume = self.journal.inventory.volumes.get(known)
        if volume is None or volume.state is VolumeState.DELETING:
            raise NotFound("volume", known)
        return volume

    async def _begin(self, volume: Volume, size: int) -> Operation:
        """Decide and reserve, if all of the volume's hosts answer: a plan for one that is away can't be carried out."""
        hosts = {host.id: host for host in self.steps.hosts(volume)}
        if silent := await self.placing.presence.silent(hosts.values()):
            names = ", ".join(sorted(hosts[host].manage for host in silent))
            raise Unavailable(f"volume {volume.name!r} cannot grow while these hosts do not answer: {names}")
        async with self.placing.lock:
            wanted = growth.in_place(self.journal.inventory, volume, size, self.placing.limits)
            return await self.journal.begin_expand(volume, wanted)

    async def _revised(self, begun: Operation, size: int) -> Operation:
        """The expansion that is open, for no more than is asked for now; the hosts tell what has grown already."""
        before = begun.before
        if before is None or size >= begun.volume.size:
            return begun
        inventory = self.journal.inventory
        wanted = growth.enlarged(inventory, before, size)
        grown = await self._grown(begun.volume)
        bricks: Sequence[Brick] = [
            growth.resized(inventory, before, brick, grown[brick.id]) if grown.get(brick.id, 0) > brick.size else brick
            for brick in wanted.bricks
        ]
        return await self.journal.revise(begun, replace(wanted, bricks=tuple(bricks)))

    async def _grown(self, volume: Volume) -> dict[BrickId, int]:
        """What the hosts say of the sizes of its bricks."""
        groups = self.steps.by_host(volume)
        found = await asyncio.gather(*(backend.inspect(host, bricks) for host, backend, bricks in groups))
        pairs = [
            (placed, state)
            for (_, _, bricks), states in zip(groups, found, strict=True)
            for placed, state in zip(bricks, states, strict=True)
        ]
        return {placed.brick.id: state.size for placed, state in pairs}

    async def _finish(self, begun: Operation) -> Volume:
        """Raises: Unavailable, whatever it was: it is not over before it is done."""
        try:
            await self.steps.apply(begun)
        except Exception as error:
            await self.journal.note(begun, str(error))
            raise Unavailable(
                f"volume {begun.volume.name!r} is being expanded to {begun.volume.size} bytes; that waits and is tried"
                f" again: {error}"
            ) from error
        return await self.journal.finish_change(begun)

    async def resume(self, operation: Operation) -> None:
        """Finish one that nobody waits for."""

        async def work() -> None:
            if (begun := self.journal.find(OperationKind.EXPAND, operation.volume.id)) is not None:
                await self._finish(begun)

        await self.operations.run(operation.volume.id, OperationKind.EXPAND, "recovery", work)

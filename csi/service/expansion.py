"""Volumes get larger while they are in use: their bricks grow where they are, or, if the class allows it and a device
lacks room, further sets of bricks come to them.

An expansion goes forward only, since XFS does not shrink: one that fails stays in the journal, keeps its space, and is
finished by a retry or by recovery. Until then the volume is told with its old size. A later, smaller request takes its
place: then only what has grown already stays as large as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from csi.core import growth, naming, sizes
from csi.core.errors import NoSpace, NotFound, SizeOutOfRange, TooLarge
from csi.core.model import Brick, BrickId, Operation, OperationKind, Volume, VolumeId
from csi.service.changing import Changing
from csi.service.placing import Placing
from csi.tasks import together


@dataclass(frozen=True, slots=True)
class ExpandRequest:
    """``required`` and ``limit`` in bytes, 0 where the caller does not care."""

    volume_id: str
    required: int
    limit: int


@dataclass(frozen=True, slots=True)
class Expansion:
    changing: Changing
    placing: Placing

    async def expand(self, request: ExpandRequest) -> Volume:
        """The volume with at least ``required`` bytes; its bricks are that large when this returns.

        Raises: NotFound, SizeOutOfRange (also: larger than ``limit`` already), TooLarge with what it can have, Busy,
        and Unavailable while a host is away: what was begun is finished when it is back.
        """
        if not naming.is_id(request.volume_id):
            raise NotFound("volume", request.volume_id)
        known = VolumeId(request.volume_id)
        return await self.changing.operations.run(
            known, OperationKind.EXPAND, request, lambda: self._expand(known, request)
        )

    async def _expand(self, known: VolumeId, request: ExpandRequest) -> Volume:
        volume = self.changing.volume(known)
        size = sizes.choose(request.required, request.limit)
        if (begun := self.changing.journal.change_of(known)) is not None and request.required > volume.size:
            volume = await self.changing.finish(await self._revised(begun, size))
        if request.limit and volume.size > request.limit:
            raise SizeOutOfRange(
                f"capacity_range.limit_bytes: volume {volume.name!r} has {volume.size} bytes, more than"
                f" {request.limit}: a volume does not shrink"
            )
        if volume.size >= request.required:
            return volume
        return await self.changing.finish(await self._begin(volume, size))

    async def _begin(self, volume: Volume, size: int) -> Operation:
        """Decide and reserve, if all of the volume's hosts answer: a plan for one that is away can't be carried out."""
        silent = await self.placing.silent(volume.spec)
        self.placing.check_present(volume, silent)
        async with self.placing.lock:
            try:
                wanted = self.placing.enlarged(volume, size, silent)
            except NoSpace as refusal:
                raise TooLarge(refusal.largest, str(refusal)) from refusal
            self.changing.check_free_for(volume, wanted)
            return await self.changing.journal.begin_expand(volume, wanted)

    async def _revised(self, begun: Operation, size: int) -> Operation:
        """The expansion that is open, for no more than is asked for now; the hosts tell what has grown already."""
        before = begun.before
        kept = before is None or size >= begun.volume.size or len(begun.volume.bricks) > len(before.bricks)
        if begun.kind is not OperationKind.EXPAND or before is None or kept:
            return begun
        inventory = self.changing.journal.inventory
        wanted = growth.enlarged(inventory, before, size)
        grown = await self._grown(begun.volume)
        bricks: Sequence[Brick] = [
            growth.resized(inventory, before, brick, grown[brick.id]) if grown.get(brick.id, 0) > brick.size else brick
            for brick in wanted.bricks
        ]
        return await self.changing.journal.revise(begun, replace(wanted, bricks=tuple(bricks)))

    async def _grown(self, volume: Volume) -> dict[BrickId, int]:
        """What the hosts say of the sizes of its bricks."""
        groups = self.changing.steps.by_host(volume)
        found = await together([backend.inspect(host, bricks) for host, backend, bricks in groups])
        pairs = [
            (placed, state)
            for (_, _, bricks), states in zip(groups, found, strict=True)
            for placed, state in zip(bricks, states, strict=True)
        ]
        return {placed.brick.id: state.size for placed, state in pairs}

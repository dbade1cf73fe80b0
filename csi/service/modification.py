"""Volumes are changed while they are in use: their options, and the number of copies.

Options come first, in one call that gluster refuses or carries out as a whole: so a value that it does not take ends
the change with nothing done. A further copy is made of bricks that gluster then fills; that it still does so is an
operation of its own, which nobody waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from csi.core import changes, growth, naming
from csi.core.errors import DriverError, GlusterFailed, InvalidRequest, NotFound
from csi.core.model import Operation, OperationKind, Step, Volume, VolumeId
from csi.service.changing import Changing
from csi.service.placing import Placing

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModifyRequest:
    volume_id: str
    parameters: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, volume_id: str, parameters: Mapping[str, str]) -> ModifyRequest:
        return cls(volume_id, tuple(sorted(parameters.items())))


@dataclass(frozen=True, slots=True)
class Modification:
    changing: Changing
    placing: Placing

    async def modify(self, request: ModifyRequest) -> Volume:
        """The volume with the mutable parameters that are asked for; done already is fine.

        Raises: InvalidRequest (unknown, or not for this volume; nothing was changed), NotFound, NoSpace, Busy, and
        Unavailable while a host is away: what was begun is finished when it is back.
        """
        asked = changes.parse(dict(request.parameters))
        if not naming.is_id(request.volume_id):
            raise NotFound("volume", request.volume_id)
        known = VolumeId(request.volume_id)
        operations = self.changing.operations
        return await operations.run(known, OperationKind.MODIFY, request, lambda: self._modify(known, asked))

    async def _modify(self, known: VolumeId, asked: changes.Changes) -> Volume:
        volume = self.changing.volume(known)
        if (begun := self.changing.journal.change_of(known)) is not None:
            volume = await self.changing.finish(begun)
        spec = changes.changed(volume, asked)
        if spec == volume.spec:
            return volume
        if spec.profile:
            # Looked for before anything is begun.
            await self.changing.steps.gluster.profile(self.changing.steps.pool(volume.cluster_id), spec.profile)
        silent = await self.placing.silent(spec)
        self.placing.check_present(volume, silent)
        async with self.placing.lock:
            wanted = replace(volume, spec=spec)
            if spec.durability != volume.spec.durability:
                wanted = growth.with_copy(self.placing.open(silent), volume, spec)
                self.changing.check_free_for(volume, wanted)
            begun = await self.changing.journal.begin_modify(volume, wanted)
        return await self._carry_out(begun)

    async def _carry_out(self, begun: Operation) -> Volume:
        """The options alone first, for their refusal leaves nothing behind."""
        if Step.SET_OPTIONS in begun.steps:
            try:
                await self.changing.steps.apply(replace(begun, steps=(Step.SET_OPTIONS,)))
            except GlusterFailed as refusal:
                await self.changing.journal.close(begun)
                raise InvalidRequest("mutable parameters", _shown(begun), refusal.text) from refusal
            except DriverError as error:
                _log.info("met again in what follows", volume=begun.volume.name, error=str(error))
        return await self.changing.finish(begun)


def _shown(begun: Operation) -> str:
    spec = begun.volume.spec
    return ", ".join([*([f"profile {spec.profile}"] if spec.profile else []), *(f"{k} {v}" for k, v in spec.options)])

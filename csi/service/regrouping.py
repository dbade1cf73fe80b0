"""The files of a volume that began as a copy get the volume's own group (class parameter ``restoreGid: new``).

The volume is made and online before that, and its record says which group its files may still have: as long as it
does nobody is told of the volume. What is done is an operation of its own, which is carried on by whoever asks for
the volume again, or by recovery, as often as need be; it is never undone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from csi.copyports import BrickCopies, VolumeFiles
from csi.core.errors import DriverError, HostUnreachable, Unavailable
from csi.core.model import Gid, Host, OperationKind, Step, Volume
from csi.ports import Clock
from csi.service.changing import Changing
from csi.service.steps import Deed
from csi.tasks import together

_log = structlog.get_logger(__name__)

_PAUSE = 1.0  # seconds between two looks, each of which waits a little by itself
_TELL = 60.0  # seconds between two lines of the log
_END = 10.0  # seconds for the work to be ended, when it is of no use any more


@dataclass(frozen=True, slots=True)
class Regrouping:
    changing: Changing
    files: VolumeFiles
    clock: Clock

    def join(self, further: dict[Step, Deed]) -> None:
        """Say what the word of a plan means that is told of here."""
        further[Step.REGROUP_FILES] = self._regroup

    async def finish(self, volume: Volume) -> Volume:
        """The volume when all its files have its group; at once if they have. Raises: Unavailable while that waits."""
        if volume.regroup_from is None:
            return volume
        journal = self.changing.journal
        begun = journal.find(OperationKind.REGROUP, volume.id)
        return await self.changing.finish(begun or await journal.begin_regroup(volume))

    async def _regroup(self, volume: Volume) -> None:
        """By the first of its hosts that answers."""
        old = self.changing.journal.inventory.volumes[volume.id].regroup_from
        if old is None:
            return None
        for host in {host.id: host for host in self.changing.steps.hosts(volume)}.values():
            try:
                await self._by(host, volume, old)
            except HostUnreachable as error:
                _log.warning("another host goes on", host=host.manage, volume=volume.name, error=str(error))
            else:
                return await self._sync(volume)
        raise Unavailable("no host with bricks of it can be reached")

    async def _sync(self, volume: Volume) -> None:
        """What was changed is on the disks of all bricks: a client cannot see to that."""
        flushes = []
        for host, backend, bricks in self.changing.steps.by_host(volume):
            if isinstance(backend, BrickCopies):
                flushes.append(backend.flush(host, bricks))
        await together(flushes)

    async def _by(self, host: Host, volume: Volume, old: Gid) -> None:
        begun = told = self.clock.monotonic()
        log = _log.bind(volume=volume.name, host=host.manage, gid=volume.gid, old=old)
        try:
            while True:
                found = await self.files.regroup(host, volume, old)
                now = self.clock.monotonic()
                if found.done:
                    log.info("regrouped", files=found.files, seconds=round(now - begun, 1))
                    return
                if now - told >= _TELL:
                    told = now
                    log.info("regrouping", files=found.files, seconds=round(now - begun))
                await self.clock.sleep(_PAUSE)
        except DriverError:
            with suppress(DriverError, TimeoutError):
                await asyncio.wait_for(self.files.leave(host, volume), _END)
            raise

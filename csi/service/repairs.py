"""What has to be known to replace a mount whose client has died, by this process or the next one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from csi.core import podpaths
from csi.nodeports import Bound, Notice, NoticeKind, Notices, Staged, StagedVolumes


class Repairs:
    """Staging paths whose dead mount is gone and whose new one is not complete yet, with what is to be bound again.

    Without records or notices nothing is remembered or told.
    """

    def __init__(self, records: StagedVolumes | None, notices: Notices | None) -> None:
        self._records = records
        self._notices = notices
        self._open: dict[str, Staged] = {}

    def __contains__(self, staging: str) -> bool:
        return staging in self._open

    async def resume(self) -> None:
        """Take up what an earlier process has begun."""
        self._open = {staged.staging: staged for staged in await self.staged() if staged.rebind is not None}

    async def staged(self) -> tuple[Staged, ...]:
        return await self._records.all() if self._records is not None else ()

    async def remember(self, staged: Staged) -> None:
        """It is mounted, and complete."""
        self._open.pop(staged.staging, None)
        await self._put(staged)

    async def forget(self, staging: str) -> None:
        self._open.pop(staging, None)
        if self._records is not None:
            await self._records.remove(staging)

    async def begin(self, staged: Staged, bound: Iterable[Bound]) -> None:
        """Its mount is about to be taken away. What an unfinished repair had still to do is kept."""
        found = {one.target: one for one in (*self.to_bind(staged.staging), *bound)}
        self._open[staged.staging] = replace(staged, rebind=tuple(found.values()))
        await self._put(self._open[staged.staging])

    def to_bind(self, staging: str) -> tuple[Bound, ...]:
        staged = self._open.get(staging)
        return (staged.rebind or ()) if staged is not None else ()

    async def drop(self, target: str) -> None:
        """It is bound again, or nobody wants it any more."""
        for staging, staged in list(self._open.items()):
            left = tuple(one for one in staged.rebind or () if one.target != target)
            if left != staged.rebind:
                self._open[staging] = replace(staged, rebind=left)
                await self._put(self._open[staging])

    async def tell_replaced(self, volume_id: str, target: str) -> None:
        await self._tell(
            NoticeKind.RESTART_POD,
            volume_id,
            target,
            f"the GlusterFS client of volume {volume_id} on this node had died and was replaced. A container sees the "
            "new mount if its volumeMount has mountPropagation HostToContainer and no subPath; restart the pod if it "
            "reports 'Transport endpoint is not connected'",
        )

    async def tell_lost(self, volume_id: str, target: str, reason: str) -> None:
        text = f"the GlusterFS client of volume {volume_id} on this node has died, and can't be replaced yet: {reason}"
        await self._tell(NoticeKind.MOUNT_LOST, volume_id, target, text)

    async def _put(self, staged: Staged) -> None:
        if self._records is not None:
            await self._records.put(staged)

    async def _tell(self, kind: NoticeKind, volume_id: str, path: str, text: str) -> None:
        if self._notices is not None:
            await self._notices.tell(Notice(kind, volume_id, path, podpaths.pod_of(path), text))

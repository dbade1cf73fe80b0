"""What others change in the resources: a watch per kind, carried on over every interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from csi.core.errors import StateUnusable
from csi.kubernetes.api import Api, ApiUnreachable, WatchRefused
from csi.kubernetes.following import Expired, changes
from csi.store.kube import resources, snapshot
from csi.store.kube.kinds import Kind

_log = structlog.get_logger(__name__)

_RESOURCES = msgspec.json.Decoder(resources.Resource)
_PAUSE = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Seen:
    """A resource as it is at its revision; ``gone``: as it was when it was removed at that revision."""

    kind: Kind
    resource: resources.Resource
    gone: bool


class Watch:
    """``heed`` gets every change, also those of this process. ``resync`` gets the whole list of a kind, after a gap."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        heed: Callable[[Seen], Awaitable[None]],
        resync: Callable[[Kind, int, list[resources.Resource]], Awaitable[None]],
    ) -> None:
        self._api = api
        self._kind = kind
        self._heed = heed
        self._resync = resync

    async def follow(self, revision: int) -> None:
        """From ``revision`` on, for ever; cancel it to end it."""
        self._revision = revision
        while True:
            try:
                await self._stream()
            except Expired:
                await self._list()
            except (ApiUnreachable, WatchRefused) as error:
                _log.warning("watch interrupted", kind=self._kind.name, error=str(error))
                await asyncio.sleep(_PAUSE)

    async def _stream(self) -> None:
        async for change in changes(self._api, self._kind.path, str(self._revision)):
            if change.found is not None:
                resource = _RESOURCES.decode(change.found.document)
                await self._heed(Seen(self._kind, resource, change.found.gone))
            self._revision = int(change.version)

    async def _list(self) -> None:
        try:
            revision = await snapshot.present_revision(self._api, self._kind)
            found = [resource async for resource in snapshot.listed(self._api, self._kind, revision)]
        except (snapshot.Passing, StateUnusable, ApiUnreachable) as error:
            _log.warning("list failed", kind=self._kind.name, error=str(error))
            await asyncio.sleep(_PAUSE)
            return
        await self._resync(self._kind, revision, found)
        self._revision = revision

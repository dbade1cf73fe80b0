"""A collection of the API server as one stream: everything that is there, then every change.

After an interruption everything is told again, so who follows has to take the same thing twice; what was removed
meanwhile is not told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from csi.core.errors import Unavailable
from csi.kubernetes.api import Api, ApiUnreachable, WatchRefused

_log = structlog.get_logger(__name__)

_PAGE = "500"
_PAUSE = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Found:
    """An object as JSON; ``gone``: it was removed."""

    document: bytes
    gone: bool = False


class ListRefused(Unavailable):
    """The API server does not let the collection be read."""


class _Metadata(msgspec.Struct):
    resourceVersion: str  # noqa: N815 - here and below the name is the wire's
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _Metadata
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Object(msgspec.Struct):
    metadata: _Metadata


class _Trouble(msgspec.Struct):
    code: int = 0
    message: str = ""


_LISTS = msgspec.json.Decoder(_List)
_EVENTS = msgspec.json.Decoder(_Event)
_OBJECTS = msgspec.json.Decoder(_Object)
_TROUBLES = msgspec.json.Decoder(_Trouble)


async def listed(api: Api, path: str, query: Mapping[str, str] | None = None) -> tuple[list[bytes], str]:
    """All objects, and the resource version that they are of. Raises: ApiUnreachable, ListRefused."""
    found: list[bytes] = []
    page = {**(query or {}), "limit": _PAGE}
    while True:
        answer = await api.request("GET", path, page)
        if not answer.good:
            raise ListRefused(f"{path} can't be listed: {answer.reason}")
        part = _LISTS.decode(answer.body)
        found += [bytes(item) for item in part.items]
        if not part.metadata.continue_:
            return found, part.metadata.resourceVersion
        page["continue"] = part.metadata.continue_


async def follow(api: Api, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Found]:
    """For ever; cancel it to end it. A server that is away or refuses is asked again, and that is logged."""
    while True:
        try:
            documents, version = await listed(api, path, query)
            for document in documents:
                yield Found(document)
            async for found in _changes(api, path, query or {}, version):
                yield found
        except (ApiUnreachable, ListRefused, WatchRefused) as error:
            _log.warning("interrupted", path=path, error=str(error))
            await asyncio.sleep(_PAUSE)


async def _changes(api: Api, path: str, query: Mapping[str, str], version: str) -> AsyncIterator[Found]:
    """Until the server no longer remembers where the last stream ended."""
    while True:
        asked = {**query, "resourceVersion": version, "allowWatchBookmarks": "true"}
        async for line in api.watch(path, asked):
            if not line:
                continue
            event = _EVENTS.decode(line)
            if event.type == "ERROR":
                trouble = _TROUBLES.decode(event.object)
                if trouble.code == 410:
                    return
                raise ApiUnreachable(trouble.message)
            version = _OBJECTS.decode(event.object).metadata.resourceVersion
            if event.type != "BOOKMARK":
                yield Found(bytes(event.object), event.type == "DELETED")

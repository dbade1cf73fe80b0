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
_GONE = 410


@dataclass(frozen=True, slots=True)
class Found:
    """An object as JSON; ``gone``: it was removed."""

    document: bytes
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """``version``: where to go on from. ``found`` is None where the server tells no more than that (a bookmark)."""

    version: str
    found: Found | None


class Expired(Exception):
    """The server's memory does not reach back to where the watch ended: the collection has to be listed."""


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
            while True:
                async for change in changes(api, path, version, query):
                    version = change.version
                    if change.found is not None:
                        yield change.found
        except Expired:
            continue
        except (ApiUnreachable, ListRefused, WatchRefused) as error:
            _log.warning("interrupted", path=path, error=str(error))
            await asyncio.sleep(_PAUSE)


async def changes(api: Api, path: str, version: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Change]:
    """What happens after ``version``, until the server ends the connection, as it does every few minutes.

    Raises: Expired, ApiUnreachable, WatchRefused.
    """
    asked = {**(query or {}), "resourceVersion": version, "allowWatchBookmarks": "true"}
    try:
        async for line in api.watch(path, asked):
            if line:
                yield _change(_EVENTS.decode(line))
    except WatchRefused as refusal:
        if refusal.status == _GONE:
            raise Expired from refusal
        raise


def _change(event: _Event) -> Change:
    if event.type == "ERROR":
        trouble = _TROUBLES.decode(event.object)
        if trouble.code == _GONE:
            raise Expired
        raise ApiUnreachable(trouble.message)
    version = _OBJECTS.decode(event.object).metadata.resourceVersion
    if event.type == "BOOKMARK":
        return Change(version, None)
    return Change(version, Found(bytes(event.object), event.type == "DELETED"))

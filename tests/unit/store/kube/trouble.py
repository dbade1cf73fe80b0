"""An API server whose answers are lost or late, what others write there, and what a store reads there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from csi.core.model import Record
from csi.kubernetes.api import Answer, ApiUnreachable, Body
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import kind_of, path_of
from tests.api_double import ApiDouble, Server


class Troubled(ApiDouble):
    """``trouble`` decides over each write: done, lost on the way there, or its answer lost on the way back."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.trouble: Callable[[str, str], str] = lambda method, path: ""
        self.writes: list[str] = []

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        trouble = ""
        if method != "GET":
            self.writes.append(f"{method} {path.split('/')[4]}")
            trouble = self.trouble(method, path)
        if trouble == "lost there":
            raise ApiUnreachable("lost")
        answer = await super().request(method, path, query, body)
        if trouble == "lost back":
            raise ApiUnreachable("lost")
        return answer


class Late(ApiDouble):
    """Tells its watches of nothing while ``flowing`` is not set."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.flowing = asyncio.Event()

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        async for line in super().watch(path, query):
            await self.flowing.wait()
            yield line


class Once:
    """Trouble for the n-th write from now, once."""

    def __init__(self, number: int, trouble: str) -> None:
        self._left = number
        self._trouble = trouble

    def __str__(self) -> str:
        return f"write {self._left}, {self._trouble}"

    def __call__(self, method: str, path: str) -> str:
        self._left -= 1
        return self._trouble if self._left == -1 else ""


async def others(server: Server, record: Record) -> None:
    """What somebody else writes."""
    path = path_of(record)
    if server.present(path) is None:
        await ApiDouble(server).request("POST", kind_of(record).path, None, resources.resource(record))
    else:
        patch: list[resources.Document] = [{"op": "replace", "path": "/spec", "value": resources.spec(record)}]
        await ApiDouble(server).request("PATCH", path, None, patch)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def reread(server: Server) -> KubeStore:
    again = KubeStore(ApiDouble(server))
    await again.open()
    await again.close()
    return again

"""Where a trial keeps its state, with the checkpoints at which its driver may end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from csi.core.inventory import Inventory
from csi.hosts.simulated.world import World
from csi.kubernetes.api import Answer, Body
from csi.ports import Change, Store
from csi.store.kube import KubeStore
from csi.store.sqlite import SqliteStore
from tests.api_double import ApiDouble, Server


class CrashingStore(SqliteStore):
    """A checkpoint before and after each commit."""

    def __init__(self, path: Path, world: World) -> None:
        super().__init__(path)
        self._world = world

    async def commit(self, changes: Sequence[Change]) -> Inventory:
        self._world.checkpoint("before commit")
        inventory = await super().commit(changes)
        self._world.checkpoint("after commit")
        return inventory


class CrashingApi(ApiDouble):
    """A checkpoint before and after each write, and one between them: the server acted, the answer is on its way."""

    def __init__(self, server: Server, world: World) -> None:
        super().__init__(server)
        self._world = world
        self._life = world.life

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        if method == "GET":
            return await super().request(method, path, query, body)
        self._world.check_life(self._life)
        what = f"{method} {path.split('/')[4]}"
        self._world.checkpoint(f"before {what}")
        answer = await super().request(method, path, query, body)
        self._world.checkpoint(f"done {what}")
        await asyncio.sleep(0)
        self._world.checkpoint(f"after {what}")
        return answer


class SqliteState:
    """A file in the trial's directory."""

    name = "SQLite"

    def store(self, directory: Path, world: World) -> Store:
        return CrashingStore(directory / "state.db", world)


class CustomResources:
    """An API server per trial, in memory."""

    name = "custom resources"

    def __init__(self) -> None:
        self._server = Server()

    def store(self, directory: Path, world: World) -> Store:
        return KubeStore(CrashingApi(self._server, world))


State = SqliteState | CustomResources

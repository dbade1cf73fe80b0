"""What keeps custom resources in a controller, over simulated hosts and any API server; and hands that write them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import yaml

from csi import app, config, corewiring
from csi.bricks.file import FileBackend
from csi.bricks.lvm import LvmBackend
from csi.clock import SystemClock
from csi.core import params
from csi.core.inventory import Inventory
from csi.core.model import Backend, Volume
from csi.gluster.adapter import GlusterCli
from csi.hosts.contacts import Contacts, HeardRunner
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Crashed, World
from csi.kubernetes.api import Api
from csi.kubernetes.client import KubernetesApi
from csi.kubernetes.events import Events
from csi.service.volumes import CreateRequest
from csi.store.kube import KubeStore
from csi.store.kube.kinds import KINDS
from tests.api_double import ApiDouble, Server
from tests.cluster.controlplane import kubectl

GIB = 1 << 30
Document = dict[str, Any]

PATHS = {kind.name: kind.path for kind in KINDS}


class HurriedClock(SystemClock):
    """Time that passes ``factor`` times as fast."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def monotonic(self) -> float:
        return super().monotonic() * self._factor

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._factor)


def hosts(count: int = 3) -> World:
    """With a device of 20 GiB each, no pool yet."""
    world = World()
    world.glusterd = SimulatedGlusterd(world)
    for number in range(1, count + 1):
        world.add(f"h{number}", f"10.0.0.{number}", devices=("/srv/d0",), size=20 * GIB)
    return world


class Life:
    """The controller's core and what keeps the resources, from its begin to its end.

    ``connect`` makes a connection: one for the state, one for the resources, closed at the end.
    """

    def __init__(self, world: World, connect: Callable[[], Api], speed: float = 50.0) -> None:
        self.world = world
        contacts = Contacts()
        runner = HeardRunner(SimulatedRunner(world), contacts)
        self.settings = config.load(None, {"GLUSTER_CSI_GIDS__REST_SECONDS": "0", "GLUSTER_CSI_RECOVERY__GRACE": "0"})
        self.store = KubeStore(connect())
        self._api = connect()
        outside = corewiring.Outside(
            store=self.store,
            runner=runner,
            gluster=GlusterCli(runner, SystemClock(), heard=contacts),
            backends={
                Backend.FILE: FileBackend(runner, self.settings.instance),
                Backend.LVM: LvmBackend(runner, self.settings.instance),
            },
            clock=HurriedClock(speed),
            contacts=contacts,
        )
        self.core = corewiring.wire(outside, self.settings)
        self._stack = AsyncExitStack()

    async def begin(self) -> Life:
        await self.store.open()
        app.keep_resources(self.core, self.store, self._api, Events(self._api, "csi.gluster.org"), self._stack)
        return self

    async def end(self) -> None:
        await self._stack.aclose()
        await self.core.operations.stop(0)
        for part in (self.core.outside.gluster, self.core.outside.runner):
            with suppress(Crashed):
                await part.close()
        await self.store.close()
        await self._api.close()

    @property
    def inventory(self) -> Inventory:
        return self.store.inventory

    async def create(self, name: str = "pvc-x", size: int = GIB, **parameters: str) -> Volume:
        return await self.core.volumes.create(CreateRequest(name, size, 0, params.parse(parameters).spec))


class Hand(Protocol):
    """What a person does, and sees."""

    async def apply(self, *documents: Document) -> str:
        """What was said if it was refused."""

    async def delete(self, kind: str, name: str) -> None: ...

    async def release(self, kind: str, name: str) -> None:
        """Take all finalizers off."""

    async def look(self, kind: str, name: str) -> Document | None: ...

    async def events(self, name: str) -> list[Document]: ...

    async def close(self) -> None: ...


class DoubleHand:
    def __init__(self, server: Server) -> None:
        self._api = ApiDouble(server)

    async def apply(self, *documents: Document) -> str:
        for document in documents:
            path = PATHS[document["kind"]]
            answer = await self._api.request("POST", path, None, {"spec": {}, **document})
            if answer.status == 409:
                fields = document.get("spec", {}).items()
                patch = [{"op": "add", "path": f"/spec/{name}", "value": value} for name, value in fields]
                answer = await self._api.request("PATCH", f"{path}/{document['metadata']['name']}", None, patch)
            assert answer.good, answer.reason
        return ""

    async def delete(self, kind: str, name: str) -> None:
        await self._api.request("DELETE", f"{PATHS[kind]}/{name}")

    async def release(self, kind: str, name: str) -> None:
        patch: list[Document] = [{"op": "replace", "path": "/metadata/finalizers", "value": []}]
        await self._api.request("PATCH", f"{PATHS[kind]}/{name}", None, patch)

    async def look(self, kind: str, name: str) -> Document | None:
        answer = await self._api.request("GET", f"{PATHS[kind]}/{name}")
        return json.loads(answer.body) if answer.good else None

    async def events(self, name: str) -> list[Document]:
        found = self._api.server.at("/api/v1/namespaces/default/events", self._api.server.revision)
        return [event for event in found if event["involvedObject"]["name"] == name]

    async def close(self) -> None:
        await self._api.close()


class KubectlHand:
    """The real ``kubectl``; eyes that look again and again ask the server themselves, which takes it a tenth."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = Path(kubeconfig)
        self._api = KubernetesApi(kubeconfig)

    async def run(self, *words: str) -> str:
        return (await asyncio.to_thread(kubectl, self._kubeconfig, words)).stdout

    async def apply(self, *documents: Document) -> str:
        text = "---\n".join(yaml.safe_dump(document) for document in documents)
        done = await asyncio.to_thread(kubectl, self._kubeconfig, ("apply", "-f", "-"), text, False)
        return done.stderr if done.returncode else ""

    async def delete(self, kind: str, name: str) -> None:
        await self.run("delete", f"{kind.lower()}.csi.gluster.org/{name}", "--wait=false")

    async def release(self, kind: str, name: str) -> None:
        await self.run("patch", kind.lower(), name, "--type=merge", '--patch={"metadata":{"finalizers":null}}')

    async def look(self, kind: str, name: str) -> Document | None:
        return await self._get(f"{PATHS[kind]}/{name}")

    async def events(self, name: str) -> list[Document]:
        query = {"fieldSelector": f"involvedObject.name={name}"}
        found = await self._get("/api/v1/namespaces/default/events", query)
        assert found is not None
        return list(found["items"])

    async def _get(self, path: str, query: dict[str, str] | None = None) -> Document | None:
        answer = await self._api.request("GET", path, query)
        assert answer.good or answer.status == 404, answer.reason
        return json.loads(answer.body) if answer.good else None

    async def close(self) -> None:
        await self._api.close()


def manifest(kind: str, name: str, **spec: Any) -> Document:
    return {"apiVersion": "csi.gluster.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def cluster(name: str = "main") -> Document:
    return manifest("GlusterCluster", name)


def host(number: int, name: str = "", **more: Any) -> Document:
    spec = {"manage": f"h{number}", "storage": f"10.0.0.{number}", "zone": number, "cluster": "main", **more}
    return manifest("GlusterHost", name or f"storage-{number}", **spec)


def device(number: int, name: str = "", **more: Any) -> Document:
    spec = {"host": f"storage-{number}", "path": "/srv/d0", **more}
    return manifest("GlusterDevice", name or f"disk-{number}", **spec)


def pool(numbers: Iterable[int], path: str = "/srv/d0") -> list[Document]:
    numbers = list(numbers)
    return [cluster(), *(host(number) for number in numbers), *(device(number, path=path) for number in numbers)]


def condition(found: Document | None, kind: str) -> Document:
    """Empty if there is none."""
    conditions: list[Document] = ((found or {}).get("status") or {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


async def until(look: Callable[[], Any], seconds: float = 30) -> Any:
    """The first thing that it finds."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found

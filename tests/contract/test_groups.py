"""Groups of volumes, on a real API server: annotations, events, and what ``gluster-csi gid check`` finds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from csi.groups.keeper import GroupKeeper, check
from csi.groups.objects import ANNOTATION
from csi.groups.publishing import GroupExplainer
from csi.kubernetes.api import Api
from csi.kubernetes.client import KubernetesApi
from csi.kubernetes.events import Events, Subject
from csi.kubernetes.pods import PodNotices
from csi.nodeports import Notice, NoticeKind
from tests.cluster.controlplane import ControlPlane

DRIVER = "csi.gluster.org"
VOLUMES = "/api/v1/persistentvolumes"
SPACE = "/api/v1/namespaces/default"
Document = dict[str, Any]


def volume(name: str, gid: str | None = "2000", driver: str = DRIVER, annotations: Document | None = None) -> Document:
    return {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {"namespace": "default", "name": f"claim-{name}"},
            "csi": {
                "driver": driver,
                "volumeHandle": name,
                "volumeAttributes": {"glusterVolume": "v", **({"gid": gid} if gid is not None else {})},
            },
        },
    }


def pod(name: str, claim: str) -> Document:
    return {
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "writer", "image": "busybox"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


class World:
    """What a test made is removed at its end."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._made: list[str] = []

    async def make(self, path: str, document: Document) -> Document:
        answer = await self.api.request("POST", path, None, document)
        assert answer.good, answer.reason
        self._made.append(f"{path}/{document['metadata']['name']}")
        return json.loads(answer.body)  # type: ignore[no-any-return]

    async def runs(self, name: str, uid: int, gid: int, groups: list[int]) -> None:
        """As the kubelet says it of a running pod."""
        user = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": groups}}
        container = {"name": "writer", "image": "", "imageID": "", "ready": True, "restartCount": 0, "user": user}
        status = {"phase": "Running", "containerStatuses": [container]}
        body = [{"op": "replace", "path": "/status", "value": status}]
        answer = await self.api.request("PATCH", f"{SPACE}/pods/{name}/status", None, body)
        assert answer.good, answer.reason

    async def annotation(self, name: str) -> str | None:
        answer = await self.api.request("GET", f"{VOLUMES}/{name}")
        found: str | None = json.loads(answer.body)["metadata"].get("annotations", {}).get(ANNOTATION)
        return found

    async def events(self, name: str) -> list[Document]:
        answer = await self.api.request("GET", f"{SPACE}/events", {"fieldSelector": f"involvedObject.name={name}"})
        found: list[Document] = json.loads(answer.body)["items"]
        return found

    async def clean(self) -> None:
        for path in reversed(self._made):
            await self.api.request("DELETE", path, None, {"gracePeriodSeconds": 0})
            if path.startswith(VOLUMES):  # nobody else is there to take the protection off
                body = [{"op": "replace", "path": "/metadata/finalizers", "value": []}]
                await self.api.request("PATCH", path, None, body)
        await self.api.request("DELETE", f"{SPACE}/events")


@pytest.fixture
async def world(control_plane: ControlPlane) -> AsyncIterator[World]:
    api = KubernetesApi(str(control_plane.kubeconfig))
    world = World(api)
    await world.make(f"{SPACE}/serviceaccounts", {"metadata": {"name": "default"}})
    yield world
    await world.clean()
    await api.close()


@contextlib.asynccontextmanager
async def keeping(world: World) -> AsyncIterator[None]:
    keeper = asyncio.create_task(GroupKeeper(world.api, Events(world.api, "gluster-csi"), DRIVER).run())
    try:
        yield
        assert not keeper.done()
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def until(look: Callable[[], Any]) -> Any:
    async with asyncio.timeout(20):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


async def test_volumes_get_their_annotation_now_and_later(world: World) -> None:
    await world.make(VOLUMES, volume("early"))
    await world.make(VOLUMES, volume("wrong", annotations={ANNOTATION: "7", "kept": "yes"}))
    await world.make(VOLUMES, volume("strange", driver="other.example.org"))
    await world.make(VOLUMES, volume("groupless", gid=None))
    async with keeping(world):
        await until(lambda: world.annotation("early"))
        await world.make(VOLUMES, volume("late", "2147483647"))
        assert await until(lambda: world.annotation("late")) == "2147483647"
        assert [await world.annotation(name) for name in ("early", "strange", "groupless")] == ["2000", None, None]
        assert await world.annotation("wrong") == "2000"
        answer = await world.api.request("GET", f"{VOLUMES}/wrong")
        assert json.loads(answer.body)["metadata"]["annotations"]["kept"] == "yes"


async def test_a_pod_that_runs_without_the_group_is_told_so_once(world: World) -> None:
    await world.make(f"{SPACE}/pods", pod("without", "claim-shared"))
    await world.make(f"{SPACE}/pods", pod("with", "claim-shared"))
    await world.make(f"{SPACE}/pods", pod("root", "claim-shared"))
    await world.runs("without", 1000, 1000, [5])
    async with keeping(world):
        # The volume comes after the pod that has it: that is how it is with this watcher alone.
        await world.make(VOLUMES, volume("shared"))
        (event,) = await until(lambda: world.events("without"))
        assert (event["type"], event["reason"]) == ("Warning", "VolumeGroupMissing")
        assert "container writer runs without group 2000 of the volume of claim claim-shared" in event["message"]
        assert "delete the pod" in event["message"]
        await world.runs("with", 1000, 1000, [5, 2000])
        await world.runs("root", 0, 0, [])
        await world.runs("without", 1000, 1001, [5])
        await asyncio.sleep(0.5)
        assert [len(await world.events(name)) for name in ("without", "with", "root")] == [1, 0, 0]


async def test_the_check_finds_both(world: World) -> None:
    await world.make(VOLUMES, volume("good", annotations={ANNOTATION: "2000"}))
    await world.make(f"{SPACE}/pods", pod("writer", "claim-good"))
    await world.runs("writer", 1000, 2000, [])
    assert await check(world.api, DRIVER) == []
    await world.make(VOLUMES, volume("bad", "2001"))
    await world.runs("writer", 1000, 1000, [])
    bad, writer = await check(world.api, DRIVER)
    assert bad.subject == "pv/bad"
    assert f"kubectl annotate --overwrite pv/bad {ANNOTATION}=2001" in bad.problem
    assert writer.subject == "pod/writer in namespace default"


async def test_a_pod_that_will_not_get_the_group_is_told_when_it_is_given_the_volume(world: World) -> None:
    told: list[Notice] = []

    class Told:
        async def tell(self, notice: Notice) -> None:
            told.append(notice)

    explainer = GroupExplainer(world.api, Told())
    await world.make(VOLUMES, volume("good", annotations={ANNOTATION: "2000"}))
    await world.make(VOLUMES, volume("bad"))
    uid = "0f8ae0c2-9a1c-4a9e-8d5b-0d2f2f3c1a11"
    for name in ("good", "bad", "absent"):
        await explainer.published("v", f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/{name}/mount", 2000)
    await explainer.published("v", "/somewhere/else", 2000)
    (notice,) = told
    assert (notice.kind, notice.pod) == (NoticeKind.GROUP_MISSING, uid)
    assert f"kubectl annotate --overwrite pv/bad {ANNOTATION}=2000" in notice.text


async def test_a_notice_reaches_the_pod_as_an_event(world: World) -> None:
    made = await world.make(f"{SPACE}/pods", pod("mounted", "claim-x") | {"spec": on_node(pod("x", "claim-x")["spec"])})
    notices = PodNotices(world.api, Events(world.api, "gluster-csi"), "node-1")
    await notices.tell(Notice(NoticeKind.RESTART_POD, "v", "/path", made["metadata"]["uid"], "restart it"))
    await notices.tell(Notice(NoticeKind.RESTART_POD, "v", "/path", "somebody-else", "restart it"))
    (event,) = await world.events("mounted")
    assert (event["reason"], event["message"], event["type"]) == ("RestartPod", "restart it", "Warning")


def on_node(spec: Document) -> Document:
    return {**spec, "nodeName": "node-1"}


async def test_an_event_is_told_once_and_never_raises(world: World) -> None:
    events = Events(world.api, "gluster-csi")
    for _ in range(2):
        await events.tell(Subject("Pod", "somebody", "default"), "Reason", "x" * 3000)
    (event,) = await world.events("somebody")
    assert len(event["message"]) == 1024
    await events.tell(Subject("Pod", "somebody", "no-such-namespace"), "Reason", "text")

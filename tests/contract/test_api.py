"""What the adapters rely on in an API server: the double in memory is held to the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from csi.core.model import Cluster, ClusterId, Gid, RestingGid
from csi.kubernetes.api import Api
from csi.kubernetes.client import KubernetesApi
from csi.store.kube import resources
from csi.store.kube.kinds import BY_RECORD, path_of
from tests.api_double import ApiDouble, Server
from tests.custom_resources import wipe

PATH = BY_RECORD[RestingGid].path
Document = dict[str, Any]


def resting(number: int, until: float = 1.0, version: int = 1) -> RestingGid:
    return RestingGid(Gid(number), until, version)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.cluster)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    if request.param == "double":
        yield ApiDouble(Server())
        return
    kubeconfig = request.getfixturevalue("custom_resources")
    await wipe(kubeconfig)
    api = KubernetesApi(kubeconfig)
    yield api
    await api.close()


async def act(api: Api, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Document]:
    answer = await api.request(method, path, query, body)
    return answer.status, json.loads(answer.body)


async def create(api: Api, record: RestingGid) -> Document:
    status, made = await act(api, "POST", PATH, resources.resource(record))
    assert status == 201
    return made


def revision(document: Document) -> int:
    return int(document["metadata"]["resourceVersion"])


def change(record: RestingGid, on: int) -> list[Document]:
    return [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": str(on)},
        {"op": "replace", "path": "/spec", "value": resources.spec(record)},
    ]


async def test_a_creation_gives_the_resource_and_its_revision(api: Api) -> None:
    first, second = await create(api, resting(1)), await create(api, resting(2))
    assert first["spec"] == {"schema": 1, "gid": 1, "until": 1.0, "version": 1}
    assert 0 < revision(first) < revision(second)
    assert (await act(api, "GET", path_of(resting(1))))[1]["spec"] == first["spec"]


async def test_a_name_is_taken_once(api: Api) -> None:
    await create(api, resting(1))
    status, _ = await act(api, "POST", PATH, resources.resource(resting(1, until=2.0)))
    assert status == 409


async def test_a_change_needs_the_present_revision(api: Api) -> None:
    made = await create(api, resting(1))
    later = resting(1, 2.0, 2)
    status, changed = await act(api, "PATCH", path_of(later), change(later, revision(made)))
    assert (status, changed["spec"]["until"]) == (200, 2.0)
    assert revision(changed) > revision(made)
    for stale in (revision(made), revision(changed) + 1):
        status, _ = await act(api, "PATCH", path_of(later), change(resting(1, 3.0, 3), stale))
        assert status == 409
    assert (await act(api, "GET", path_of(later)))[1]["spec"]["until"] == 2.0


async def test_a_change_may_be_of_a_part(api: Api) -> None:
    await create(api, resting(1))
    patch = [{"op": "add", "path": "/spec/until", "value": 2.5}]
    status, changed = await act(api, "PATCH", path_of(resting(1)), patch)
    assert (status, changed["spec"]) == (200, {"schema": 1, "gid": 1, "until": 2.5, "version": 1})


async def test_a_removal_needs_the_present_revision(api: Api) -> None:
    made = await create(api, resting(1))
    path = path_of(resting(1))
    status, _ = await act(api, "DELETE", path, {"preconditions": {"resourceVersion": str(revision(made) - 1)}})
    assert status == 409
    status, _ = await act(api, "DELETE", path, {"preconditions": {"resourceVersion": str(revision(made))}})
    assert status == 200
    for method, body in (("GET", None), ("DELETE", {}), ("PATCH", change(resting(1), 1))):
        assert (await act(api, method, path, body))[0] == 404


async def test_a_status_is_written_apart(api: Api) -> None:
    whole = {**resources.resource(resting(1)), "status": {"phase": "no"}}
    status, made = await act(api, "POST", PATH, whole)
    assert (status, "status" in made) == (201, False)
    patch = [{"op": "add", "path": "/status", "value": {"phase": "yes"}}]
    status, changed = await act(api, "PATCH", path_of(resting(1)) + "/status", patch)
    assert (status, changed["status"], changed["spec"]) == (200, {"phase": "yes"}, made["spec"])
    assert revision(changed) > revision(made)
    status, again = await act(api, "PATCH", path_of(resting(1)) + "/status", patch)
    assert (status, revision(again)) == (200, revision(changed))


HELD = "example.org/held"


def finalizers(*names: str) -> list[Document]:
    return [{"op": "add", "path": "/metadata/finalizers", "value": list(names)}]


async def test_the_generation_counts_what_is_asked_for(api: Api) -> None:
    path = path_of(resting(1))
    await create(api, resting(1))
    steps: list[tuple[str, list[Document], int]] = [
        (path, [{"op": "add", "path": "/spec/until", "value": 2.5}], 2),
        (f"{path}/status", [{"op": "add", "path": "/status", "value": {"phase": "yes"}}], 2),
        (path, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}], 2),
        (path, finalizers(HELD), 2),
    ]
    for where, patch, generation in steps:
        status, changed = await act(api, "PATCH", where, patch)
        assert (status, changed["metadata"]["generation"]) == (200, generation)
    _, marked = await act(api, "DELETE", path, {})
    assert marked["metadata"]["generation"] == 3
    await act(api, "PATCH", path, finalizers())


async def test_a_status_and_the_rest_are_written_apart(api: Api) -> None:
    path = path_of(resting(1))
    made = await create(api, resting(1))
    both: list[dict[str, object]] = [
        {"op": "add", "path": "/status", "value": {"phase": "yes"}},
        {"op": "add", "path": "/spec/until", "value": 2.5},
    ]
    _, changed = await act(api, "PATCH", f"{path}/status", both)
    assert (changed["spec"], changed["status"]) == (made["spec"], {"phase": "yes"})
    both[0]["value"] = {"phase": "no"}
    _, changed = await act(api, "PATCH", path, both)
    assert (changed["spec"]["until"], changed["status"]) == (2.5, {"phase": "yes"})


async def test_a_finalizer_holds_what_is_deleted(api: Api) -> None:
    made = await create(api, resting(1))
    path = path_of(resting(1))
    _, held = await act(api, "PATCH", path, finalizers(HELD, "example.org/other"))
    on = {"preconditions": {"resourceVersion": held["metadata"]["resourceVersion"]}}
    status, marked = await act(api, "DELETE", path, on)
    assert (status, bool(marked["metadata"]["deletionTimestamp"])) == (200, True)
    assert revision(marked) > revision(held)
    status, again = await act(api, "DELETE", path, {})
    assert (status, revision(again)) == (200, revision(marked))
    status, left = await act(api, "PATCH", path, finalizers("example.org/other"))
    assert (status, left["metadata"]["finalizers"]) == (200, ["example.org/other"])
    seen: list[tuple[str, int]] = []

    async def follow() -> None:
        async for line in api.watch(PATH, {"resourceVersion": str(revision(made)), "allowWatchBookmarks": "true"}):
            event = json.loads(line)
            if event["type"] != "BOOKMARK":
                seen.append((event["type"], revision(event["object"])))
            if event["type"] == "DELETED":
                return

    assert (await act(api, "PATCH", path, finalizers()))[0] == 200
    assert (await act(api, "GET", path))[0] == 404
    async with asyncio.timeout(10):
        await follow()
    assert [kind for kind, _ in seen] == ["MODIFIED"] * 3 + ["DELETED"]
    assert seen[-1][1] > seen[-2][1] == revision(left)


async def test_a_list_is_of_one_moment_in_pages(api: Api) -> None:
    made = [await create(api, resting(number)) for number in range(1, 6)]
    moment = revision(made[-1])
    await create(api, resting(6))
    await act(api, "DELETE", path_of(resting(2)), {})
    query = {"limit": "2", "resourceVersion": str(moment), "resourceVersionMatch": "Exact"}
    found = []
    while True:
        status, page = await act(api, "GET", PATH, None, **query)
        assert (status, page["metadata"]["resourceVersion"]) == (200, str(moment))
        found += [item["spec"]["gid"] for item in page["items"]]
        if not page["metadata"].get("continue"):
            break
        query = {"limit": "2", "continue": page["metadata"]["continue"]}
    assert found == [1, 2, 3, 4, 5]
    assert len((await act(api, "GET", PATH))[1]["items"]) == 5


async def test_the_moment_of_one_kind_is_that_of_all(api: Api) -> None:
    made = await create(api, resting(1))
    cluster = Cluster(ClusterId("c" * 32), 1)
    clusters = BY_RECORD[Cluster].path
    await act(api, "POST", clusters, resources.resource(cluster))
    query = {"resourceVersion": str(revision(made)), "resourceVersionMatch": "Exact"}
    assert (await act(api, "GET", clusters, None, **query))[1]["items"] == []
    assert revision((await act(api, "GET", clusters, limit="1"))[1]) > revision(made)


async def test_a_watch_tells_of_everything_since_its_revision(api: Api) -> None:
    made = await create(api, resting(1))
    later = resting(1, 2.0, 2)
    _, changed = await act(api, "PATCH", path_of(later), change(later, revision(made)))
    seen: list[tuple[str, int, float]] = []

    async def follow() -> None:
        async for line in api.watch(PATH, {"resourceVersion": str(revision(made)), "allowWatchBookmarks": "true"}):
            event = json.loads(line)
            if event["type"] != "BOOKMARK":
                seen.append((event["type"], revision(event["object"]), event["object"]["spec"]["until"]))
            if event["type"] == "DELETED":
                return

    following = asyncio.create_task(follow())
    second = await create(api, resting(2))
    await act(api, "DELETE", path_of(resting(1)), {})
    async with asyncio.timeout(10):
        await following
    assert [(kind, until) for kind, _, until in seen] == [("MODIFIED", 2.0), ("ADDED", 1.0), ("DELETED", 2.0)]
    assert [at for _, at, _ in seen[:2]] == [revision(changed), revision(second)]
    assert seen[2][1] > revision(second)

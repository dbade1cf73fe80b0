"""The removal of an operation that is done, which nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from csi.core import naming
from csi.core.errors import StateUnusable, Unavailable
from csi.core.model import Cluster, ClusterId, Direction, Gid, Operation, OperationKind, Step, Volume, VolumeSpec
from csi.kubernetes.api import Answer, Body
from csi.ports import Put, Remove
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import path_of
from tests.api_double import ApiDouble, Server

CLUSTER = Cluster(ClusterId("c" * 32))
_ID = naming.volume_id("a")
VOLUME = Volume(_ID, "a", f"vol_{_ID}", CLUSTER.id, 1 << 30, VolumeSpec(), (), Gid(2000))
CREATION = Operation(naming.operation_id(OperationKind.CREATE, _ID), OperationKind.CREATE, VOLUME, (Step.MAKE_BRICKS,))


class Slow(ApiDouble):
    """Removals wait until they may go on."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.may_go_on = asyncio.Event()
        self.removals = 0

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        if method == "DELETE":
            self.removals += 1
            await self.may_go_on.wait()
        return await super().request(method, path, query, body)


class Permit:
    holds = True

    def __call__(self) -> None:
        if not self.holds:
            raise Unavailable("the lease is lost")


@pytest.fixture
def api(server: Server) -> Slow:
    return Slow(server)


@pytest.fixture
def permit() -> Permit:
    return Permit()


@pytest.fixture
async def store(api: Slow, permit: Permit) -> AsyncIterator[KubeStore]:
    store = KubeStore(api, patience=1.0, permit=permit)
    await store.open()
    await store.commit([Put(CLUSTER)])
    await store.commit([Put(CREATION)])
    yield store
    api.may_go_on.set()
    await store.close()


async def finish(store: KubeStore) -> None:
    await store.commit([Put(VOLUME), Remove(store.inventory.operations[CREATION.id])])


async def test_a_creation_is_done_when_its_volume_is_put(server: Server, api: Slow, store: KubeStore) -> None:
    await finish(store)
    assert VOLUME.id in store.inventory.volumes
    assert not store.inventory.operations
    assert server.present(path_of(CREATION)) is not None, "its removal is under way"
    api.may_go_on.set()
    await store.close()
    assert server.present(path_of(CREATION)) is None, "the end of the service waits for it"


async def test_who_waited_for_the_commit_goes_on_before_the_removal_is_sent(api: Slow, store: KubeStore) -> None:
    await finish(store)
    assert api.removals == 0
    async with asyncio.timeout(5):
        while not api.removals:
            await asyncio.sleep(0.001)


async def test_the_next_operation_of_that_name_waits_for_the_removal(
    server: Server, api: Slow, store: KubeStore
) -> None:
    await finish(store)
    again = asyncio.create_task(store.commit([Put(CREATION)]))
    await asyncio.sleep(0.05)
    assert not again.done()
    api.may_go_on.set()
    await again
    present = server.present(path_of(CREATION))
    assert present is not None
    assert store.inventory.operations[CREATION.id].version == 1


async def test_others_are_written_meanwhile(server: Server, api: Slow, store: KubeStore) -> None:
    await finish(store)
    other = Cluster(ClusterId("d" * 32))
    await asyncio.wait_for(store.commit([Put(other)]), 10)
    assert server.present(path_of(other)) is not None


async def test_nobody_is_told_of_a_volume_when_the_lease_was_lost_meanwhile(
    api: Slow, permit: Permit, store: KubeStore
) -> None:
    def lose(method: str, path: str) -> None:
        if method == "POST" and "glustervolumes" in path:
            permit.holds = False

    request = api.request

    async def losing(
        method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        answer = await request(method, path, query, body)
        lose(method, path)
        return answer

    api.request = losing  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="the lease is lost"):
        await finish(store)
    assert api.removals == 0
    assert VOLUME.id not in store.inventory.volumes


async def test_an_operation_that_another_controller_turned_back_stops_this_one(
    server: Server, api: Slow, store: KubeStore
) -> None:
    await finish(store)
    await asyncio.sleep(0)
    turned: list[resources.Document] = [{"op": "replace", "path": "/spec/direction", "value": Direction.BACK.value}]
    await ApiDouble(server).request("PATCH", path_of(CREATION), None, turned)
    api.may_go_on.set()
    await asyncio.sleep(0.05)
    with pytest.raises(StateUnusable, match="changed by somebody else, when it was done"):
        await store.commit([Put(Cluster(ClusterId("d" * 32)))])


async def test_the_next_start_finishes_what_was_cut_off(server: Server, api: Slow, store: KubeStore) -> None:
    await finish(store)
    successor = KubeStore(ApiDouble(server))
    await successor.open()
    assert VOLUME.id in successor.inventory.volumes
    assert not successor.inventory.operations
    assert server.present(path_of(CREATION)) is None
    await successor.close()

"""Commits whose answers are lost, that may not be written or were cut short, and the documents that they write."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace

import pytest

from csi.core.errors import StateUnusable, Unavailable
from csi.core.model import Availability, Direction, Gid, OperationKind, Record, RestingGid, VolumeState
from csi.ports import Change, Put, Remove
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import kind_of, path_of
from tests.api_double import ApiDouble, Server
from tests.unit.store.kube.records import CLUSTER, DEVICE, HOST, operation, volume
from tests.unit.store.kube.trouble import Once, Troubled, others, reread, settled

# --- lost answers -----------------------------------------------------------------------------

COMMITS: dict[str, Callable[[KubeStore], list[Change]]] = {
    "create": lambda s: [Put(volume("b")), Put(RestingGid(Gid(2001), 1.0))],
    "replace": lambda s: [
        Put(replace(s.inventory.hosts[HOST.id], tags={})),
        Put(replace(s.inventory.devices[DEVICE.id], state=Availability.OFFLINE)),
    ],
    "remove": lambda s: [Remove(s.inventory.devices[DEVICE.id]), Remove(s.inventory.hosts[HOST.id])],
}


@pytest.mark.parametrize("trouble", [Once(n, how) for n in (0, 1) for how in ("lost there", "lost back")], ids=str)
@pytest.mark.parametrize("commit", COMMITS)
async def test_a_write_without_an_answer_is_carried_out_once(
    store: KubeStore, api: Troubled, server: Server, commit: str, trouble: Once
) -> None:
    api.trouble = copy(trouble)
    inventory = await store.commit(COMMITS[commit](store))
    # A removal of what carries a finalizer is two requests, and both are sent again if the first answer was lost.
    assert len(api.writes) in ((5, 6, 7) if commit == "remove" else (3,))
    assert (await reread(server)).inventory == inventory == store.inventory


async def test_while_the_server_is_away_nothing_else_is_written_and_then_the_change_is(
    server: Server, api: Troubled
) -> None:
    store = KubeStore(api, patience=0.1)
    await store.open()
    api.away = True
    with pytest.raises(StateUnusable, match=r"not written yet.*does not|away.*see to it"):
        await store.commit([Put(CLUSTER)])
    with pytest.raises(StateUnusable, match="nothing of this one was written"):
        await store.commit([Put(RestingGid(Gid(2001), 1.0))])
    api.away = False
    await settled(lambda: CLUSTER.id in store.inventory.clusters)
    await store.commit([Put(HOST)])
    await store.close()
    assert not (await reread(server)).inventory.resting


async def test_an_open_without_a_server_says_what_to_do(api: Troubled) -> None:
    api.away = True
    with pytest.raises(StateUnusable, match="see to it that the API server is up"):
        await KubeStore(api).open()


async def test_nothing_is_written_without_permission(server: Server) -> None:
    def permit() -> None:
        raise Unavailable("another controller leads")

    store = KubeStore(ApiDouble(server), permit=permit)
    await store.open()
    with pytest.raises(Unavailable):
        await store.commit([Put(CLUSTER)])
    await store.close()
    assert server.present(path_of(CLUSTER)) is None


# --- commits that were cut short --------------------------------------------------------------

FORWARD, BACK = operation(OperationKind.CREATE), operation(OperationKind.CREATE, Direction.BACK)
DELETION = operation(OperationKind.DELETE)
READY, DELETING = volume(), volume(state=VolumeState.DELETING)


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ([FORWARD], {FORWARD}),
        ([FORWARD, READY], {READY}),
        ([BACK], {BACK}),
        ([BACK, READY], {BACK}),
        ([DELETING], {READY}),
        ([DELETING, DELETION], {DELETING, DELETION}),
        ([READY, DELETION], {READY}),
        ([DELETION], set()),
    ],
)
async def test_what_a_crash_left_is_repaired_at_the_start(
    server: Server, found: list[Record], left: set[Record]
) -> None:
    for record in (CLUSTER, *found):
        await others(server, replace(record, version=1))
    inventory = (await reread(server)).inventory
    kept = [*inventory.volumes.values(), *inventory.operations.values()]
    assert {(r.id, getattr(r, "state", None)) for r in kept} == {(r.id, getattr(r, "state", None)) for r in left}
    assert (await reread(server)).inventory == inventory


async def test_a_creation_that_another_controller_wrote_late_is_turned_back(store: KubeStore, server: Server) -> None:
    await others(server, replace(FORWARD, version=1))
    await settled(lambda: store.inventory.operations.get(FORWARD.id, FORWARD).direction is Direction.BACK)


async def test_a_volume_that_another_controller_finished_late_is_not_kept(store: KubeStore, server: Server) -> None:
    await store.commit([Put(BACK)])
    await others(server, replace(READY, version=1))
    await settled(lambda: server.present(path_of(READY)) is None)
    await settled(lambda: READY.id not in store.inventory.volumes)
    assert BACK.id in store.inventory.operations


# --- the documents ----------------------------------------------------------------------------


def test_a_spec_is_spelt_as_the_api_spells() -> None:
    spec = resources.spec(replace(HOST, version=3))
    assert spec["clusterId"] == CLUSTER.id
    assert spec["tags"] == {"rack_row": "1"}
    assert (spec["schema"], spec["version"]) == (1, 3)
    assert "deviceTag" not in resources.spec(volume())["spec"]


async def test_a_newer_schema_is_not_read(server: Server) -> None:
    newer = resources.resource(replace(CLUSTER, version=1))
    newer["spec"]["schema"] = 2
    await ApiDouble(server).request("POST", kind_of(CLUSTER).path, None, newer)
    with pytest.raises(StateUnusable, match="schema is 2"):
        await reread(server)

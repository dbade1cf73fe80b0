"""Records that appear though this controller did not write them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import msgspec
import pytest

from csi.core import naming
from csi.core.errors import Busy, HostUnreachable
from csi.core.model import Device, Direction, Host, OperationKind, Volume
from csi.ports import Put, Remove
from csi.store.kube import KubeStore, resources, strangers
from csi.store.kube.kinds import kind_of, path_of
from tests.api_double import ApiDouble, Server
from tests.unit.store.kube.records import CLUSTER, DEVICE, HOST, operation, volume
from tests.unit.store.kube.trouble import Troubled, others, reread, settled


def written() -> Volume:
    return replace(volume(), version=1)


class Hosts:
    """What they say of a volume; None: one of them is away."""

    def __init__(self) -> None:
        self.there: Sequence[str] | None = ()
        self.asked = 0

    async def remains(self, asked: Volume) -> Sequence[str]:
        self.asked += 1
        if self.there is None:
            raise HostUnreachable("n1", "away")
        return self.there


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
async def store(server: Server, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeStore]:
    monkeypatch.setattr(strangers, "_PAUSE", 0.01)
    store = KubeStore(Troubled(server), patience=1.0)
    store.ask_hosts(hosts.remains)
    await store.open()
    await store.commit([Put(CLUSTER), Put(HOST), Put(DEVICE)])
    yield store
    await store.close()


async def test_the_record_of_a_volume_that_is_not_there_is_removed(
    store: KubeStore, server: Server, hosts: Hosts
) -> None:
    await others(server, written())
    await settled(lambda: hosts.asked == 1 and server.present(path_of(volume())) is None)
    assert not store.inventory.volumes
    # And it can be made.
    await store.commit([Put(operation(OperationKind.CREATE))])
    await store.commit([Put(volume()), Remove(store.inventory.operations[operation(OperationKind.CREATE).id])])
    assert set(store.inventory.volumes) == {volume().id}
    await store.close()
    assert (await reread(server)).inventory == store.inventory


async def test_the_record_of_a_volume_that_is_there_is_taken_up(store: KubeStore, server: Server, hosts: Hosts) -> None:
    hosts.there = ["Gluster volume v"]
    await others(server, written())
    await settled(lambda: volume().id in store.inventory.volumes)
    # What somebody changes of it later needs no second look.
    await others(server, replace(store.inventory.volumes[volume().id], size=2 << 30))
    await settled(lambda: store.inventory.volumes[volume().id].size == 2 << 30)
    assert hosts.asked == 1


async def test_while_a_host_is_away_the_volume_is_neither_known_nor_made(
    store: KubeStore, server: Server, hosts: Hosts
) -> None:
    hosts.there = None
    await others(server, written())
    await settled(lambda: hosts.asked > 1)
    with pytest.raises(Busy, match="appeared that this controller did not write"):
        await store.commit([Put(operation(OperationKind.CREATE))])
    assert not store.inventory.volumes
    assert not store.inventory.operations
    hosts.there = ["brick n1:/d/x"]
    await settled(lambda: volume().id in store.inventory.volumes)


async def test_somebody_takes_the_record_away_again(store: KubeStore, server: Server, hosts: Hosts) -> None:
    hosts.there = None
    await others(server, written())
    await settled(lambda: hosts.asked > 1)
    await Troubled(server).request("DELETE", path_of(volume()), None, None)
    asked = -1
    while asked != hosts.asked:
        asked = hosts.asked
        await asyncio.sleep(0.05)
    await store.commit([Put(operation(OperationKind.CREATE))])
    assert not store.inventory.volumes


async def test_only_this_controller_ends_the_creation_that_it_began(
    store: KubeStore, server: Server, hosts: Hosts
) -> None:
    await store.commit([Put(operation(OperationKind.CREATE))])
    other = replace(written(), size=7 << 30)
    await others(server, other)
    await settled(lambda: server.present(path_of(other)) is None)
    assert set(store.inventory.operations) == {operation(OperationKind.CREATE).id}
    await store.commit([Put(volume()), Remove(store.inventory.operations[operation(OperationKind.CREATE).id])])
    assert store.inventory.volumes[volume().id].size == volume().size
    assert hosts.asked == 0


@pytest.mark.parametrize("direction", Direction)
async def test_the_end_of_a_creation_that_another_began(server: Server, hosts: Hosts, direction: Direction) -> None:
    """Forward: it came to its end. Back: it is undone by us."""
    before = KubeStore(Troubled(server), patience=1.0)
    await before.open()
    await before.commit([Put(CLUSTER), Put(HOST), Put(DEVICE), Put(operation(OperationKind.CREATE, direction))])
    await before.close()
    store = KubeStore(Troubled(server), patience=1.0)
    store.ask_hosts(hosts.remains)
    await store.open()
    try:
        await others(server, written())
        if direction is Direction.FORWARD:
            await settled(lambda: bool(store.inventory.volumes) and not store.inventory.operations)
        else:
            await settled(lambda: server.present(path_of(volume())) is None)
            assert set(store.inventory.operations) == {operation(OperationKind.CREATE).id}
        assert hosts.asked == 0
    finally:
        await store.close()


def second() -> tuple[Host, Device]:
    """A host and its device, as records that somebody else has written."""
    host = replace(HOST, id=naming.host_id("n2"), manage="n2", storage="10.0.0.2", version=1)
    return host, replace(DEVICE, id=naming.device_id(host.id, "/d"), host_id=host.id, version=1)


async def test_records_that_come_before_what_they_refer_to_wait_for_it(store: KubeStore, server: Server) -> None:
    host, device = second()
    await others(server, device)
    await asyncio.sleep(0.02)
    assert device.id not in store.inventory.devices
    # Whatever is left aside keeps nothing else from being done.
    await store.commit([Put(replace(store.inventory.hosts[HOST.id], tags={}))])
    await others(server, host)
    await settled(lambda: device.id in store.inventory.devices)
    assert store.inventory.devices[device.id].host_id == host.id
    await store.close()
    assert (await reread(server)).inventory == store.inventory


async def test_what_it_refers_to_may_be_written_by_this_controller(store: KubeStore, server: Server) -> None:
    host, device = second()
    await others(server, device)
    await asyncio.sleep(0.02)
    after = await store.commit([Put(replace(host, version=0))])
    assert device.id in after.devices
    assert after == store.inventory


async def test_what_waits_may_go_again(store: KubeStore, server: Server) -> None:
    host, device = second()
    await others(server, device)
    await asyncio.sleep(0.02)
    path = path_of(device)
    await ApiDouble(server).request(
        "PATCH", path, None, [{"op": "replace", "path": "/metadata/finalizers", "value": []}]
    )
    await ApiDouble(server).request("DELETE", path)
    # A change of the same kind, so that the watch is known to have come so far.
    await others(server, replace(store.inventory.devices[DEVICE.id], total=1 << 41))
    await settled(lambda: store.inventory.devices[DEVICE.id].total == 1 << 41)
    assert device.id not in (await store.commit([Put(replace(host, version=0))])).devices


async def test_what_waits_may_go_in_a_gap_of_the_watch(store: KubeStore, server: Server) -> None:
    host, device = second()
    await others(server, device)
    await asyncio.sleep(0.02)
    left = msgspec.json.decode(msgspec.json.encode(server.present(path_of(DEVICE))), type=resources.Resource)
    await store._resync(kind_of(device), server.revision, [left])
    assert device.id not in (await store.commit([Put(replace(host, version=0))])).devices

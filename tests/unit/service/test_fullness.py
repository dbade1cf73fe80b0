"""The watch over thin pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry

from csi import metrics
from csi.clock import SystemClock
from csi.core.errors import Unavailable
from csi.core.model import Backend, BrickId, Cluster, ClusterId, Device, DeviceId, Host, HostId, Record
from csi.core.pools import GroupFullness, PoolFullness, PoolLimit
from csi.ports import Put
from csi.service.fullness import Fullness
from csi.service.operations import Operations
from csi.store.memory import MemoryStore

CLUSTER = ClusterId("c" * 32)
HOSTS = [Host(HostId(letter * 32), CLUSTER, f"h{letter}", f"h{letter}", 1) for letter in "ab"]
DEVICES = [Device(DeviceId(h.id[:31] + "1"), h.id, "/dev/vdb", Backend.LVM, 1 << 40) for h in HOSTS]
FILES = Device(DeviceId("f" * 32), HOSTS[0].id, "/srv/d0", Backend.FILE, 1 << 40)


@dataclass
class Gauge:
    percent: dict[str, float] = field(default_factory=lambda: {"ha": 10.0, "hb": 20.0})

    async def fullness(self, host: Host, devices: Sequence[Device]) -> tuple[GroupFullness, ...]:
        assert [device.backend for device in devices] == [Backend.LVM]
        if host.manage not in self.percent:
            raise Unavailable(f"{host.manage} is away")
        percent = self.percent[host.manage]
        pool = f"vg/{host.manage}"
        return tuple(
            GroupFullness(
                d.id, 12, (PoolFullness(d.id, pool, (BrickId(d.id),), (), ("pvc",), percent, 1.0, 8, 4, 8, 64),)
            )
            for d in devices
        )


async def watching(gauge: Gauge) -> Fullness:
    store = MemoryStore()
    await store.open()
    records: list[Record] = [Cluster(CLUSTER), *HOSTS, *DEVICES, FILES]
    await store.commit([Put(record) for record in records])
    return Fullness(gauge, SystemClock(), store, 1, PoolLimit())


async def test_a_pool_is_told_of_once_while_it_is_nearly_full() -> None:
    gauge = Gauge()
    watch = await watching(gauge)
    with structlog.testing.capture_logs() as logs:
        for percent in (79.9, 80.0, 95.0, 50.0, 81.0):
            gauge.percent["ha"] = percent
            await watch.look()
    assert [entry["data_percent"] for entry in logs] == [80.0, 81.0]
    assert {(entry["host"], entry["device"]) for entry in logs} == {("ha", "/dev/vdb")}


async def test_a_host_that_does_not_answer_keeps_its_last_figures() -> None:
    gauge = Gauge()
    watch = await watching(gauge)
    await watch.look()
    del gauge.percent["ha"]
    gauge.percent["hb"] = 30.0
    await watch.look()
    assert {one.host: one.pool.data for one in watch.measured} == {"ha": 10.0, "hb": 30.0}


async def test_the_figures_are_a_metric() -> None:
    watch = await watching(Gauge())
    await watch.look()
    store, registry = MemoryStore(), CollectorRegistry()
    await store.open()
    metrics.watch(store, Operations(), pools=watch.figures, registry=registry)
    brick = {"pool": "vg/hb", "brick": DEVICES[1].id, "volume": "pvc"}
    labels = {"host": "hb", "device": "/dev/vdb", **brick, "part": "data"}
    assert registry.get_sample_value("gluster_csi_thin_pool_used_ratio", labels) == 0.2

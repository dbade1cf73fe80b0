"""What ``/metrics`` tells is what the records hold."""

from __future__ import annotations

import socket
import urllib.request
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from csi import metrics
from csi.core import naming
from csi.core.errors import ConfigInvalid, Unavailable
from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Brick,
    BrickId,
    Cluster,
    ClusterId,
    Device,
    DeviceId,
    Gid,
    Host,
    HostId,
    Operation,
    OperationId,
    OperationKind,
    RestingGid,
    Step,
    Volume,
    VolumeSpec,
    VolumeState,
)

GIB = 1 << 30


def inventory() -> Inventory:
    cluster = Cluster(ClusterId("c"))
    host = Host(HostId("h"), cluster.id, "node1", "10.0.0.1", 1)
    device = Device(DeviceId("d"), host.id, "/srv/a", Backend.FILE, 100 * GIB)

    def volume(name: str, size: int, gid: int) -> Volume:
        known = naming.volume_id(name)
        brick = Brick(BrickId(name), 0, 0, host.id, device.id, size, size, "/b")
        return Volume(known, name, "vol_x", cluster.id, size, VolumeSpec(), (brick,), Gid(gid))

    one, two = volume("one", 10 * GIB, 2000), volume("two", 5 * GIB, 2001)
    gone = replace(volume("gone", 3 * GIB, 2002), state=VolumeState.DELETING)
    opened = Operation(
        OperationId("o"), OperationKind.CREATE, volume("new", GIB, 2003), (Step.MAKE_BRICKS,), error="x", started=50.0
    )
    closing = Operation(OperationId("p"), OperationKind.DELETE, gone, (Step.REMOVE_VOLUME,), started=40.0)
    return Inventory.of([cluster, host, device, one, two, gone, opened, closing, RestingGid(Gid(1999), 9.0)])


class Registry:
    def __init__(self, state: Inventory, running: int = 0) -> None:
        self.prometheus = CollectorRegistry()
        self.store = SimpleNamespace(inventory=state)
        self.end = metrics.watch(cast(Any, self.store), cast(Any, range(running)), registry=self.prometheus)

    def value(self, name: str, **labels: str) -> float | None:
        return self.prometheus.get_sample_value(f"gluster_csi_{name}", labels)


def test_the_state_is_counted() -> None:
    found = Registry(inventory(), running=2)
    assert found.value("volumes", state="ready") == 2
    assert found.value("volumes", state="deleting") == 1
    assert found.value("volume_bytes", state="ready") == 15 * GIB
    assert found.value("operations_open", kind="create", direction="forward") == 1
    assert found.value("operations_open", kind="create", direction="back") == 0
    assert found.value("operations_open", kind="delete", direction="forward") == 1
    assert found.value("operations_failing") == 1
    assert found.value("operations_running") == 2
    assert found.value("oldest_operation_start_seconds") == 40.0
    assert found.value("gids_resting") == 1
    assert found.value("late_effects_total") == 0
    assert found.value("device_bytes", host="node1", device="/srv/a") == 100 * GIB
    assert found.value("device_free_bytes", host="node1", device="/srv/a") == (100 - 10 - 5 - 3 - 1) * GIB


def test_it_is_computed_at_each_scrape() -> None:
    found = Registry(Inventory())
    assert found.value("volumes", state="ready") == 0
    assert found.value("oldest_operation_start_seconds") == 0
    found.store.inventory = inventory()
    assert found.value("volumes", state="ready") == 2


def test_watching_ends() -> None:
    found = Registry(inventory())
    found.end()
    assert found.value("volumes", state="ready") is None


@pytest.fixture
def port() -> int:
    """One that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_it_is_served(port: int) -> None:
    found = Registry(inventory())
    stop = metrics.serve(f"127.0.0.1:{port}", found.prometheus)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            assert b'gluster_csi_volumes{state="ready"} 2.0' in reply.read()
        with pytest.raises(Unavailable, match=str(port)):
            metrics.serve(f"127.0.0.1:{port}", found.prometheus)
    finally:
        stop()
    metrics.serve(f"127.0.0.1:{port}", found.prometheus)()


@pytest.mark.parametrize("listen", ["", "9100", "host:", "host:x", "host:70000", "host:-1", ":²"])
def test_an_address_that_can_not_be_one(listen: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"metrics\.listen"):
        metrics.serve(listen)

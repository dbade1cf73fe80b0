"""What people write: read, checked, and what keeps it from being removed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from csi.core import naming
from csi.core.errors import InvalidRequest
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Backend,
    Brick,
    Cluster,
    ClusterId,
    Device,
    Gid,
    Host,
    Operation,
    OperationKind,
    Step,
    Volume,
    VolumeSpec,
)
from csi.manifests import written
from csi.manifests.removal import holding
from csi.manifests.written import Spec

CLUSTER = Cluster(ClusterId("c" * 32))
HOST = Host(naming.host_id("n1"), CLUSTER.id, "n1", "10.0.0.1", zone=1)
DEVICE = Device(naming.device_id(HOST.id, "/d"), HOST.id, "/d", Backend.FILE, 1 << 40)


def volume(name: str) -> Volume:
    volume_id = naming.volume_id(name)
    brick = Brick(naming.brick_id(volume_id, 0, 0), 0, 0, HOST.id, DEVICE.id, 1 << 30, 1 << 30, f"/b/{name}")
    return Volume(volume_id, name, f"vol_{volume_id}", CLUSTER.id, 1 << 30, VolumeSpec(), (brick,), Gid(2000))


def test_the_ids_are_those_of_the_topology_file() -> None:
    host = written.host_of(Spec(manage="n1", storage="10.0.0.1", zone=1), CLUSTER.id)
    assert host == HOST
    assert written.device_of(Spec(path="/d", total=1 << 40), host.id) == DEVICE


def test_what_is_said_besides_is_kept() -> None:
    spec = Spec(manage="n1", storage="10.0.0.1", zone=1, state=Availability.OFFLINE, tags={"disk": "ssd"})
    host = written.host_of(spec, CLUSTER.id)
    assert (host.state, host.tags) == (Availability.OFFLINE, {"disk": "ssd"})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (Spec(manage="n 1", storage="10.0.0.1", zone=1), "manage"),
        (Spec(manage="n1", storage="10.0.0.1:5", zone=1), "storage"),
        (Spec(manage="n1", storage="10.0.0.1", zone=0), "zone"),
        (Spec(manage="n1", storage="10.0.0.1", zone=70000), "zone"),
        (Spec(manage="n1", storage="10.0.0.1", zone=1, tags={"a b": "c"}), "tags"),
        (Spec(manage="n1", storage="10.0.0.1", zone=1, tags={"a": "b c"}), "tags.a"),
        (Spec(manage="n1", storage="10.0.0.1", zone=1, tags={f"t{n}": "" for n in range(40)}), "tags"),
    ],
)
def test_what_is_wrong_with_a_host_is_told_by_its_field(spec: Spec, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        written.host_of(spec, CLUSTER.id)
    assert refused.value.field == field


@pytest.mark.parametrize("path", ["d", "/d/", "/d/../e", "//d", "/a b", ""])
def test_a_path_is_absolute_and_plain(path: str) -> None:
    with pytest.raises(InvalidRequest, match="path"):
        written.device_of(Spec(path=path), HOST.id)


def test_a_document_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        written.read(json.dumps({"metadata": {"name": "x"}, "spec": {"zone": "one"}}).encode())


def test_what_is_held_is_named_up_to_a_few() -> None:
    names = [f"pvc-{number}" for number in range(8)]
    inventory = Inventory.of([CLUSTER, HOST, DEVICE, *map(volume, names)])
    told = holding(DEVICE, inventory)
    assert "brick /b/pvc-" in told
    assert "and 3 more" in told
    assert sum(f"volume {name}" in told for name in names) == 5
    assert "device /d" in holding(HOST, inventory)
    assert "host n1" in holding(CLUSTER, inventory)


def test_a_volume_that_is_being_made_is_held_too() -> None:
    kind = OperationKind.CREATE
    plan = Operation(naming.operation_id(kind, volume("a").id), kind, volume("a"), (Step.MAKE_BRICKS,))
    assert "being made" in holding(DEVICE, Inventory.of([CLUSTER, HOST, DEVICE, plan]))


def test_what_holds_nothing_may_go() -> None:
    assert holding(DEVICE, Inventory.of([CLUSTER, HOST, DEVICE])) == ""
    assert holding(HOST, Inventory.of([CLUSTER, HOST])) == ""
    assert holding(replace(CLUSTER, version=1), Inventory.of([CLUSTER])) == ""

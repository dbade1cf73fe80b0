"""A state as a file, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.core import naming
from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Cluster,
    Device,
    Gid,
    Host,
    Operation,
    OperationKind,
    RestingGid,
    Step,
    Volume,
    VolumeSpec,
)
from csi.store import archive

CLUSTER = Cluster(naming.cluster_id("n1"), 3)
HOST = Host(naming.host_id("n1"), CLUSTER.id, "n1", "10.0.0.1", zone=1, tags={"rack": "ü"}, version=2)
DEVICE = Device(naming.device_id(HOST.id, "/d"), HOST.id, "/d", Backend.FILE, 1 << 40, version=1)
VOLUME_ID = naming.volume_id("a\nb")
VOLUME = Volume(VOLUME_ID, "a\nb", "vol", CLUSTER.id, 1 << 30, VolumeSpec(), (), Gid(2000), version=9)
OPERATION = Operation(
    naming.operation_id(OperationKind.DELETE, VOLUME_ID), OperationKind.DELETE, VOLUME, (Step.REMOVE_VOLUME,), term=4
)
RECORDS = (CLUSTER, HOST, DEVICE, VOLUME, OPERATION, RestingGid(Gid(2001), 1.5, 1))


def lines() -> list[bytes]:
    return list(archive.write(Inventory.of(RECORDS)))


def test_what_is_written_is_read_as_new() -> None:
    assert archive.read(lines(), "f") == [replace(record, version=0) for record in RECORDS]


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (lines()[:-1], "f has 5 of the 6 records"),
        ([], "f is not a file of"),
        ([b'{"format": "other", "schema": 1, "records": 0}'], "says 'other'"),
        ([b'{"format": "gluster-csi state", "schema": 2, "records": 0}'], "schema 2.*newer release"),
        ([*lines()[:2], b'{"kind": "host", "record": {}}'], "line 3: not a record"),
        ([*lines()[:2], b'{"kind": "snapshot", "record": {}}'], "line 3: not a record"),
        ([*lines()[:2], lines()[2][:40]], "line 3: not a record"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(spoilt: list[bytes], says: str) -> None:
    with pytest.raises(StateUnusable, match=says):
        archive.read(spoilt, "f")

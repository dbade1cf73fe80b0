"""Snapshots and groups of them at the edge: what is refused, what the service is asked, what is answered."""

from __future__ import annotations

import pytest

from csi.api import csi_pb2 as pb
from csi.core import naming
from csi.core.errors import CannotCopy, DriverError, NoRoom, TooMany, Unavailable
from csi.core.model import Source, SourceKind
from tests.unit.driver.conftest import GIB, Edge
from tests.unit.driver.test_controller import Code, create, refused


def take(name: str = "snapshot-1", volume: str = "v1", **parameters: str) -> pb.CreateSnapshotRequest:
    return pb.CreateSnapshotRequest(name=name, source_volume_id=volume, parameters=parameters)


async def test_a_snapshot_is_answered_whole(edge: Edge) -> None:
    reply = (await edge.controller.CreateSnapshot(take())).snapshot
    assert (reply.snapshot_id, reply.source_volume_id) == (naming.snapshot_id("snapshot-1"), "v1")
    assert (reply.size_bytes, reply.ready_to_use, reply.group_snapshot_id) == (GIB, True, "")
    assert (reply.creation_time.seconds, reply.creation_time.nanos) == (12, 250_000_000)
    assert (await edge.controller.GetSnapshot(pb.GetSnapshotRequest(snapshot_id=reply.snapshot_id))).snapshot == reply


async def test_what_the_sidecar_acts_on_is_no_parameter_of_ours(edge: Edge) -> None:
    given = {"csi.storage.k8s.io/volumesnapshot/name": "s", "deletionPolicy": "Retain"}
    assert (await edge.controller.CreateSnapshot(take(**given))).snapshot.ready_to_use


@pytest.mark.parametrize(
    ("request_", "word"),
    [(take(name=""), "name"), (take(volume=""), "source_volume_id"), (take(speed="11"), "speed")],
)
async def test_what_is_wrong_with_a_request_is_said(edge: Edge, request_: pb.CreateSnapshotRequest, word: str) -> None:
    await refused(edge.controller.CreateSnapshot(request_), Code.INVALID_ARGUMENT, word)
    assert edge.snapshots.taken == {}


async def test_what_the_sidecar_adds_is_taken(edge: Edge) -> None:
    await edge.controller.CreateSnapshot(take(**{"csi.storage.k8s.io/volumesnapshot/name": "n"}))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TooMany("64"), Code.RESOURCE_EXHAUSTED),
        (NoRoom("full"), Code.RESOURCE_EXHAUSTED),
        (CannotCopy("ext4"), Code.FAILED_PRECONDITION),
        (Unavailable("a brick is down"), Code.UNAVAILABLE),
    ],
)
async def test_refusals_have_their_codes(edge: Edge, error: DriverError, code: Code) -> None:
    edge.snapshots.failure = error
    await refused(edge.controller.CreateSnapshot(take()), code, str(error))


async def test_deleting_and_getting_need_an_id(edge: Edge) -> None:
    await refused(edge.controller.DeleteSnapshot(pb.DeleteSnapshotRequest()), Code.INVALID_ARGUMENT, "snapshot_id")
    await refused(edge.controller.GetSnapshot(pb.GetSnapshotRequest()), Code.INVALID_ARGUMENT, "snapshot_id")
    await refused(edge.controller.GetSnapshot(pb.GetSnapshotRequest(snapshot_id="no")), Code.NOT_FOUND, "no")
    await edge.controller.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id="s"))
    assert edge.snapshots.deleted == ["s"]


async def test_a_list_passes_on_what_is_asked_for(edge: Edge) -> None:
    await edge.controller.CreateSnapshot(take())
    asked = pb.ListSnapshotsRequest(max_entries=3, starting_token="t", source_volume_id="v", snapshot_id="s")
    reply = await edge.controller.ListSnapshots(asked)
    assert edge.snapshots.asked == [("t", 3, "v", "s")]
    assert ([e.snapshot.source_volume_id for e in reply.entries], reply.next_token) == (["v1"], "more")
    await refused(
        edge.controller.ListSnapshots(pb.ListSnapshotsRequest(max_entries=-1)), Code.INVALID_ARGUMENT, "max_entries"
    )


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (
            pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id="s")),
            Source(SourceKind.SNAPSHOT, "s"),
        ),
        (
            pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id="v")),
            Source(SourceKind.VOLUME, "v"),
        ),
    ],
)
async def test_a_volume_can_be_asked_for_as_a_copy(edge: Edge, content: pb.VolumeContentSource, source: Source) -> None:
    await edge.controller.CreateVolume(create(volume_content_source=content))
    assert edge.volumes.created[0].source == source


async def test_a_group_is_taken_looked_at_and_deleted(edge: Edge) -> None:
    asked = pb.CreateVolumeGroupSnapshotRequest(name="g", source_volume_ids=["a", "b"])
    group = (await edge.groups.CreateVolumeGroupSnapshot(asked)).group_snapshot
    assert group.group_snapshot_id == naming.group_id("g")
    assert [s.source_volume_id for s in group.snapshots] == ["a", "b"]
    assert {s.group_snapshot_id for s in group.snapshots} == {group.group_snapshot_id}
    assert group.ready_to_use
    assert group.creation_time.seconds == 12
    known = group.group_snapshot_id
    found = await edge.groups.GetVolumeGroupSnapshot(pb.GetVolumeGroupSnapshotRequest(group_snapshot_id=known))
    assert found.group_snapshot == group
    await edge.groups.DeleteVolumeGroupSnapshot(
        pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=known, snapshot_ids=["x"])
    )
    assert edge.snapshots.deleted == [known, "x"]


async def test_a_group_needs_a_name_and_volumes(edge: Edge) -> None:
    nameless = pb.CreateVolumeGroupSnapshotRequest(source_volume_ids=["a"])
    await refused(edge.groups.CreateVolumeGroupSnapshot(nameless), Code.INVALID_ARGUMENT, "name")
    empty = pb.CreateVolumeGroupSnapshotRequest(name="g")
    await refused(edge.groups.CreateVolumeGroupSnapshot(empty), Code.INVALID_ARGUMENT, "source_volume_ids")
    unknown = pb.GetVolumeGroupSnapshotRequest(group_snapshot_id="x")
    await refused(edge.groups.GetVolumeGroupSnapshot(unknown), Code.NOT_FOUND, "x")
    can = await edge.groups.GroupControllerGetCapabilities(pb.GroupControllerGetCapabilitiesRequest())
    assert len(can.capabilities) == 1

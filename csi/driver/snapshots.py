"""CSI's calls for snapshots: decode, call the service, encode. They are part of the controller's service."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from csi.api import csi_pb2 as pb
from csi.core.errors import InvalidRequest
from csi.core.model import Snapshot
from csi.driver import wire
from csi.service.snapshots import Snapshots

_Rpc = pb.ControllerServiceCapability.RPC
_SIDECAR = "csi.storage.k8s.io/"
# Many classes, those of Kubernetes' own storage suite among them, say it a second time there.
_FIELDS_OF_THE_CLASS = frozenset({"deletionPolicy"})

CAPABILITIES = (
    _Rpc.CREATE_DELETE_SNAPSHOT,
    _Rpc.LIST_SNAPSHOTS,
    _Rpc.GET_SNAPSHOT,
    _Rpc.CLONE_VOLUME,
)


class SnapshotCalls:
    """``snapshots`` is the service."""

    snapshots: Snapshots

    async def CreateSnapshot(  # noqa: N802 - here and below the name is the wire's
        self, request: pb.CreateSnapshotRequest, context: object
    ) -> pb.CreateSnapshotResponse:
        name = wire.name(request.name)
        volume_id = wire.required("source_volume_id", request.source_volume_id)
        check_parameters(request.parameters)
        return pb.CreateSnapshotResponse(snapshot=encoded(await self.snapshots.create(name, volume_id)))

    async def DeleteSnapshot(  # noqa: N802
        self, request: pb.DeleteSnapshotRequest, context: object
    ) -> pb.DeleteSnapshotResponse:
        await self.snapshots.delete(wire.required("snapshot_id", request.snapshot_id))
        return pb.DeleteSnapshotResponse()

    async def ListSnapshots(  # noqa: N802
        self, request: pb.ListSnapshotsRequest, context: object
    ) -> pb.ListSnapshotsResponse:
        page = self.snapshots.list(
            request.starting_token,
            wire.page_size(request.max_entries),
            volume_id=request.source_volume_id,
            snapshot_id=request.snapshot_id,
        )
        entries = [pb.ListSnapshotsResponse.Entry(snapshot=encoded(snapshot)) for snapshot in page.snapshots]
        return pb.ListSnapshotsResponse(entries=entries, next_token=page.next_token)

    async def GetSnapshot(  # noqa: N802
        self, request: pb.GetSnapshotRequest, context: object
    ) -> pb.GetSnapshotResponse:
        snapshot = self.snapshots.get(wire.required("snapshot_id", request.snapshot_id))
        return pb.GetSnapshotResponse(snapshot=encoded(snapshot))


def check_parameters(parameters: Mapping[str, str]) -> None:
    """Raises: InvalidRequest for any but those that the sidecar adds, or acts on itself."""
    if unknown := [key for key in parameters if not key.startswith(_SIDECAR) and key not in _FIELDS_OF_THE_CLASS]:
        raise InvalidRequest("parameters", unknown[0], "snapshots of this driver have none; leave it out of the class")


def encoded(snapshot: Snapshot) -> pb.Snapshot:
    """A snapshot that is there is ready: it is cut, and its copies are on the disks."""
    nanoseconds = int(snapshot.created * 1_000_000) * 1000
    return pb.Snapshot(
        snapshot_id=snapshot.id,
        source_volume_id=snapshot.volume_id,
        size_bytes=snapshot.size,
        creation_time=moment(nanoseconds),
        ready_to_use=True,
        group_snapshot_id=snapshot.group_id,
    )


def moment(nanoseconds: int) -> Timestamp:
    return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)

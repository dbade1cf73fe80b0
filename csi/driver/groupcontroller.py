"""CSI GroupController: snapshots of several volumes at one moment."""

from __future__ import annotations

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from csi.core.errors import InvalidRequest
from csi.driver import wire
from csi.driver.snapshots import check_parameters, encoded
from csi.service.snapshots import Group, Snapshots

_Rpc = pb.GroupControllerServiceCapability.RPC


class GroupControllerService(rpc.GroupControllerServicer):
    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def GroupControllerGetCapabilities(  # noqa: N802 - here and below the name is the wire's
        self, request: pb.GroupControllerGetCapabilitiesRequest, context: object
    ) -> pb.GroupControllerGetCapabilitiesResponse:
        can = _Rpc(type=_Rpc.CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT)
        return pb.GroupControllerGetCapabilitiesResponse(capabilities=[pb.GroupControllerServiceCapability(rpc=can)])

    async def CreateVolumeGroupSnapshot(  # noqa: N802
        self, request: pb.CreateVolumeGroupSnapshotRequest, context: object
    ) -> pb.CreateVolumeGroupSnapshotResponse:
        name = wire.name(request.name)
        if not request.source_volume_ids:
            raise InvalidRequest("source_volume_ids", (), "at least one is required")
        check_parameters(request.parameters)
        group = await self._snapshots.create_group(name, list(request.source_volume_ids))
        return pb.CreateVolumeGroupSnapshotResponse(group_snapshot=_encoded(group))

    async def DeleteVolumeGroupSnapshot(  # noqa: N802
        self, request: pb.DeleteVolumeGroupSnapshotRequest, context: object
    ) -> pb.DeleteVolumeGroupSnapshotResponse:
        group = wire.required("group_snapshot_id", request.group_snapshot_id)
        await self._snapshots.delete_group(group, list(request.snapshot_ids))
        return pb.DeleteVolumeGroupSnapshotResponse()

    async def GetVolumeGroupSnapshot(  # noqa: N802
        self, request: pb.GetVolumeGroupSnapshotRequest, context: object
    ) -> pb.GetVolumeGroupSnapshotResponse:
        known = wire.required("group_snapshot_id", request.group_snapshot_id)
        group = self._snapshots.get_group(known, list(request.snapshot_ids))
        return pb.GetVolumeGroupSnapshotResponse(group_snapshot=_encoded(group))


def _encoded(group: Group) -> pb.VolumeGroupSnapshot:
    members = [encoded(snapshot) for snapshot in group.snapshots]
    return pb.VolumeGroupSnapshot(
        group_snapshot_id=group.id,
        snapshots=members,
        creation_time=members[0].creation_time,
        ready_to_use=True,
    )

"""CSI Controller: decode, call the service, encode. The rules of the messages are in ``wire.py``.

Where zones are announced (``zones.py``), they confine bricks. Secrets are not used, so they are not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from google.protobuf.wrappers_pb2 import Int64Value

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from csi.core import params
from csi.core.errors import DriverError, InvalidRequest
from csi.core.model import Volume
from csi.driver import wire, zones
from csi.driver.claims import Claim, claim_of
from csi.driver.snapshots import CAPABILITIES as OF_SNAPSHOTS
from csi.driver.snapshots import SnapshotCalls
from csi.ports import ClaimNotices
from csi.service.expansion import Expansion
from csi.service.modification import Modification, ModifyRequest
from csi.service.snapshots import Snapshots
from csi.service.volumes import Condition, Volumes

_log = structlog.get_logger(__name__)
_Rpc = pb.ControllerServiceCapability.RPC

CAPABILITIES = (
    _Rpc.CREATE_DELETE_VOLUME,
    _Rpc.LIST_VOLUMES,
    _Rpc.GET_CAPACITY,
    _Rpc.GET_VOLUME,
    _Rpc.VOLUME_CONDITION,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.EXPAND_VOLUME,
    _Rpc.MODIFY_VOLUME,
    *OF_SNAPSHOTS,
)


class ControllerService(SnapshotCalls, rpc.ControllerServicer):
    def __init__(
        self,
        volumes: Volumes,
        expansion: Expansion,
        modification: Modification,
        snapshots: Snapshots,
        notices: ClaimNotices | None = None,
    ) -> None:
        self._volumes = volumes
        self.snapshots = snapshots
        self._notices = notices
        self._expansion = expansion
        self._modification = modification

    async def ControllerGetCapabilities(  # noqa: N802 - here and below the name is the wire's
        self, request: pb.ControllerGetCapabilitiesRequest, context: object
    ) -> pb.ControllerGetCapabilitiesResponse:
        return pb.ControllerGetCapabilitiesResponse(
            capabilities=[pb.ControllerServiceCapability(rpc=_Rpc(type=kind)) for kind in CAPABILITIES]
        )

    async def CreateVolume(  # noqa: N802
        self, request: pb.CreateVolumeRequest, context: object
    ) -> pb.CreateVolumeResponse:
        asked, unused = wire.create_request(request)
        volume = await self._volumes.create(asked)
        if unused:
            await self._tell_of_unused(unused, claim_of(request))
        return pb.CreateVolumeResponse(volume=self._volume(volume))

    async def DeleteVolume(  # noqa: N802
        self, request: pb.DeleteVolumeRequest, context: object
    ) -> pb.DeleteVolumeResponse:
        await self._volumes.delete(wire.required("volume_id", request.volume_id))
        return pb.DeleteVolumeResponse()

    async def ControllerExpandVolume(  # noqa: N802
        self, request: pb.ControllerExpandVolumeRequest, context: object
    ) -> pb.ControllerExpandVolumeResponse:
        asked = wire.expand_request(request)
        volume = await self._expansion.expand(asked)
        # GlusterFS clients see the new size by themselves.
        return pb.ControllerExpandVolumeResponse(capacity_bytes=volume.size, node_expansion_required=False)

    async def ControllerModifyVolume(  # noqa: N802
        self, request: pb.ControllerModifyVolumeRequest, context: object
    ) -> pb.ControllerModifyVolumeResponse:
        volume_id = wire.required("volume_id", request.volume_id)
        await self._modification.modify(ModifyRequest.of(volume_id, request.mutable_parameters))
        return pb.ControllerModifyVolumeResponse()

    async def ValidateVolumeCapabilities(  # noqa: N802
        self, request: pb.ValidateVolumeCapabilitiesRequest, context: object
    ) -> pb.ValidateVolumeCapabilitiesResponse:
        wire.required("volume_id", request.volume_id)
        if not request.volume_capabilities:
            raise InvalidRequest("volume_capabilities", (), "at least one is required")
        volume = self._volumes.get(request.volume_id)
        try:
            wire.check_capabilities(request.volume_capabilities)
            message = wire.disagreement(volume, request.volume_context, request.parameters)
            message = message or wire.mutable_disagreement(volume, request.mutable_parameters)
        except InvalidRequest as refusal:
            message = str(refusal)
        if message:
            return pb.ValidateVolumeCapabilitiesResponse(message=message)
        return pb.ValidateVolumeCapabilitiesResponse(
            confirmed=pb.ValidateVolumeCapabilitiesResponse.Confirmed(
                volume_context=request.volume_context,
                volume_capabilities=request.volume_capabilities,
                parameters=request.parameters,
                mutable_parameters=request.mutable_parameters,
            )
        )

    async def ListVolumes(  # noqa: N802
        self, request: pb.ListVolumesRequest, context: object
    ) -> pb.ListVolumesResponse:
        page = self._volumes.list(request.starting_token, wire.page_size(request.max_entries))
        conditions = await asyncio.gather(*(self._condition(volume) for volume in page.volumes))
        return pb.ListVolumesResponse(
            entries=[
                pb.ListVolumesResponse.Entry(
                    volume=self._volume(volume),
                    status=pb.ListVolumesResponse.VolumeStatus(volume_condition=wire.condition(condition)),
                )
                for volume, condition in zip(page.volumes, conditions, strict=True)
            ],
            next_token=page.next_token,
        )

    async def ControllerGetVolume(  # noqa: N802
        self, request: pb.ControllerGetVolumeRequest, context: object
    ) -> pb.ControllerGetVolumeResponse:
        volume = self._volumes.get(wire.required("volume_id", request.volume_id))
        condition = await self._condition(volume)
        return pb.ControllerGetVolumeResponse(
            volume=self._volume(volume),
            status=pb.ControllerGetVolumeResponse.VolumeStatus(volume_condition=wire.condition(condition)),
        )

    async def GetCapacity(  # noqa: N802
        self, request: pb.GetCapacityRequest, context: object
    ) -> pb.GetCapacityResponse:
        asked = [request.accessible_topology] if request.HasField("accessible_topology") else []
        spec = zones.confined(params.parse(request.parameters).spec, asked)
        try:
            if request.volume_capabilities:
                wire.check_capabilities(request.volume_capabilities)
        except InvalidRequest:
            # Not an error of the question: of such volumes there is room for none.
            return pb.GetCapacityResponse(available_capacity=0, maximum_volume_size=Int64Value(value=0))
        capacity = self._volumes.capacity(spec)
        return pb.GetCapacityResponse(
            available_capacity=capacity.available,
            maximum_volume_size=Int64Value(value=capacity.maximum),
            minimum_volume_size=Int64Value(value=capacity.minimum),
        )

    async def _tell_of_unused(self, names: Sequence[str], claim: Claim | None) -> None:
        _log.warning("parameters without use here", names=names)
        if self._notices is not None and claim is not None:
            text = f"without effect in this StorageClass: {', '.join(names)} (they were for Heketi); they can go"
            await self._notices.tell(claim.namespace, claim.name, claim.uid, "ParametersUnused", text)

    def _volume(self, volume: Volume) -> pb.Volume:
        return wire.volume(volume, self._volumes.servers(volume))

    async def _condition(self, volume: Volume) -> Condition:
        try:
            return await self._volumes.condition(volume)
        except DriverError as error:
            # A pool that does not answer is no reason to hide the volume, and reason enough to look at it.
            return Condition(True, f"its pool could not be asked: {error}")

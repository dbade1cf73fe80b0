"""CSI Identity: who this plugin is, what it serves in all, and whether it is ready."""

from __future__ import annotations

from google.protobuf.wrappers_pb2 import BoolValue

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc

_Service = pb.PluginCapability.Service


class IdentityService(rpc.IdentityServicer):
    """``ready`` is set by who starts and stops the services: sidecars wait while it is False."""

    def __init__(self, name: str, version: str, *, zones: bool = False) -> None:
        self._name = name
        self._version = version
        self._zones = zones
        self.ready = False

    async def GetPluginInfo(  # noqa: N802 - here and below the name is the wire's
        self, request: pb.GetPluginInfoRequest, context: object
    ) -> pb.GetPluginInfoResponse:
        return pb.GetPluginInfoResponse(name=self._name, vendor_version=self._version)

    async def GetPluginCapabilities(  # noqa: N802
        self, request: pb.GetPluginCapabilitiesRequest, context: object
    ) -> pb.GetPluginCapabilitiesResponse:
        # The same from every instance of a version, also from one that serves a node only.
        kinds = [_Service.CONTROLLER_SERVICE, _Service.GROUP_CONTROLLER_SERVICE]
        if self._zones:
            kinds.append(_Service.VOLUME_ACCESSIBILITY_CONSTRAINTS)
        growing = pb.PluginCapability.VolumeExpansion(type=pb.PluginCapability.VolumeExpansion.ONLINE)
        services = [pb.PluginCapability(service=_Service(type=kind)) for kind in kinds]
        return pb.GetPluginCapabilitiesResponse(capabilities=[*services, pb.PluginCapability(volume_expansion=growing)])

    async def Probe(  # noqa: N802
        self, request: pb.ProbeRequest, context: object
    ) -> pb.ProbeResponse:
        return pb.ProbeResponse(ready=BoolValue(value=self.ready))

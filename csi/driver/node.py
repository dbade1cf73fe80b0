"""CSI Node: decode, call the service, encode. What is wrong with a message is found before anything is looked at."""

from __future__ import annotations

import asyncio
import posixpath

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from csi.core import mountflags
from csi.core.errors import InvalidRequest, NotStaged
from csi.core.mountflags import ClientFlags
from csi.driver import wire, zones
from csi.driver.context import VolumeContext
from csi.mountports import MountSource, Usage
from csi.nodeports import Publications
from csi.service.publish import Publish, Publisher, Stage

_Rpc = pb.NodeServiceCapability.RPC
_Mode = pb.VolumeCapability.AccessMode

CAPABILITIES = (
    _Rpc.STAGE_UNSTAGE_VOLUME,
    _Rpc.GET_VOLUME_STATS,
    _Rpc.VOLUME_CONDITION,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
)

# One target on a node. SINGLE_NODE_WRITER too: a caller that knows SINGLE_NODE_MULTI_WRITER says so when it means that.
_EXCLUSIVE = {_Mode.SINGLE_NODE_WRITER, _Mode.SINGLE_NODE_READER_ONLY, _Mode.SINGLE_NODE_SINGLE_WRITER}
_READERS = {_Mode.SINGLE_NODE_READER_ONLY, _Mode.MULTI_NODE_READER_ONLY}

_LONGEST_PATH = 4095  # bytes; the kernel's PATH_MAX without the final NUL


class NodeService(rpc.NodeServicer):
    def __init__(
        self, publisher: Publisher, node_id: str, zone: int = 0, publications: Publications | None = None
    ) -> None:
        self._publisher = publisher
        self._node_id = node_id
        self._zone = zone
        self._publications = publications
        self._telling: set[asyncio.Task[None]] = set()

    async def NodeGetCapabilities(  # noqa: N802 - here and below the name is the wire's
        self, request: pb.NodeGetCapabilitiesRequest, context: object
    ) -> pb.NodeGetCapabilitiesResponse:
        return pb.NodeGetCapabilitiesResponse(
            capabilities=[pb.NodeServiceCapability(rpc=_Rpc(type=kind)) for kind in CAPABILITIES]
        )

    async def NodeGetInfo(  # noqa: N802
        self, request: pb.NodeGetInfoRequest, context: object
    ) -> pb.NodeGetInfoResponse:
        place = zones.topology(self._zone) if self._zone else None
        return pb.NodeGetInfoResponse(node_id=self._node_id, accessible_topology=place)

    async def NodeStageVolume(  # noqa: N802
        self, request: pb.NodeStageVolumeRequest, context: object
    ) -> pb.NodeStageVolumeResponse:
        volume_id = wire.required("volume_id", request.volume_id)
        staging = _path("staging_target_path", request.staging_target_path)
        flags = _flags(request.HasField("volume_capability"), request.volume_capability)
        source = self._source(VolumeContext.from_map(request.volume_context), flags)
        await self._publisher.stage(Stage(volume_id, source, staging))
        return pb.NodeStageVolumeResponse()

    async def NodeUnstageVolume(  # noqa: N802
        self, request: pb.NodeUnstageVolumeRequest, context: object
    ) -> pb.NodeUnstageVolumeResponse:
        volume_id = wire.required("volume_id", request.volume_id)
        await self._publisher.unstage(volume_id, _path("staging_target_path", request.staging_target_path))
        return pb.NodeUnstageVolumeResponse()

    async def NodePublishVolume(  # noqa: N802
        self, request: pb.NodePublishVolumeRequest, context: object
    ) -> pb.NodePublishVolumeResponse:
        volume_id = wire.required("volume_id", request.volume_id)
        target = _path("target_path", request.target_path)
        flags = _flags(request.HasField("volume_capability"), request.volume_capability)
        if not request.staging_target_path:
            raise NotStaged(f"volume {volume_id[:128]!r}: staging_target_path is not set: stage the volume first")
        staging = _path("staging_target_path", request.staging_target_path)
        if staging == target:
            raise InvalidRequest("target_path", target, "another path than staging_target_path")
        mode = request.volume_capability.access_mode.mode
        read_only = request.readonly or flags.read_only or mode in _READERS
        volume = VolumeContext.from_map(request.volume_context)
        await self._publisher.publish(
            Publish(
                volume_id,
                self._source(volume, flags),
                staging,
                target,
                exclusive=mode in _EXCLUSIVE,
                options=(*(("ro",) if read_only else ()), *flags.bind),
            )
        )
        self._tell(volume_id, target, volume.gid or 0)
        return pb.NodePublishVolumeResponse()

    async def NodeUnpublishVolume(  # noqa: N802
        self, request: pb.NodeUnpublishVolumeRequest, context: object
    ) -> pb.NodeUnpublishVolumeResponse:
        volume_id = wire.required("volume_id", request.volume_id)
        await self._publisher.unpublish(volume_id, _path("target_path", request.target_path))
        return pb.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(  # noqa: N802
        self, request: pb.NodeGetVolumeStatsRequest, context: object
    ) -> pb.NodeGetVolumeStatsResponse:
        # A relative path is no error of the argument: nothing is mounted there, and callers rely on NOT_FOUND.
        volume_id = wire.required("volume_id", request.volume_id)
        stats = await self._publisher.stats(volume_id, wire.required("volume_path", request.volume_path))
        return pb.NodeGetVolumeStatsResponse(
            usage=_usage(stats.usage) if stats.usage is not None else [],
            volume_condition=pb.VolumeCondition(abnormal=stats.abnormal, message=stats.message),
        )

    def _tell(self, volume_id: str, target: str, gid: int) -> None:
        """The pod does not wait for it."""
        if self._publications is not None:
            telling = asyncio.create_task(self._publications.published(volume_id, target, gid))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    def _source(self, context: VolumeContext, flags: ClientFlags) -> MountSource:
        # Staged writable always: each pod's bind mount says whether it may write.
        return MountSource(
            context.servers_for(self._node_id), context.gluster_volume, context.ping_timeout, flags.client
        )


def _path(field: str, path: str) -> str:
    """Raises: InvalidRequest."""
    wire.required(field, path)
    clean = posixpath.normpath(path)
    fits = len(path.encode()) <= _LONGEST_PATH and "\0" not in path
    if not path.startswith("/") or not fits or ".." in path.split("/") or not clean.strip("/"):
        raise InvalidRequest(
            field, path, f"an absolute path below '/', without '..', of up to {_LONGEST_PATH} bytes without NUL"
        )
    return "/" + clean.lstrip("/")


def _flags(present: bool, capability: pb.VolumeCapability) -> ClientFlags:
    """Raises: InvalidRequest."""
    if not present:
        raise InvalidRequest("volume_capability", None, "it is required")
    wire.check_capability(capability)
    return mountflags.check(capability.mount.mount_flags)


def _usage(usage: Usage) -> list[pb.VolumeUsage]:
    unit = pb.VolumeUsage.Unit
    return [
        pb.VolumeUsage(unit=unit.BYTES, total=usage.total, used=usage.used, available=usage.available),
        pb.VolumeUsage(unit=unit.INODES, total=usage.inodes, used=usage.inodes_used, available=usage.inodes_free),
    ]

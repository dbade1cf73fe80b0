"""Messages of the controller's calls ↔ values of the core: the checks of what a caller may say, and the replies.

What is wrong with a message is found here, before anything is looked up.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

from csi.api import csi_pb2 as pb
from csi.core import changes, mountflags, params
from csi.core.errors import InvalidRequest
from csi.core.model import Source, SourceKind, Volume
from csi.core.mountflags import ClientFlags
from csi.driver import zones
from csi.driver.context import VolumeContext
from csi.service.expansion import ExpandRequest
from csi.service.volumes import Condition, CreateRequest

_LONGEST_NAME = 128  # bytes, by the specification
_FILE_SYSTEMS = ("", "glusterfs", "fuse.glusterfs")


def required(field: str, value: str) -> str:
    """Raises: InvalidRequest if the field is not set."""
    if not value:
        raise InvalidRequest(field, value, "it is required")
    return value


def create_request(request: pb.CreateVolumeRequest) -> tuple[CreateRequest, tuple[str, ...]]:
    """The request, and the names of the parameters that are known but have no use here.

    Raises: InvalidRequest.
    """
    named = name(request.name)
    check_capabilities(request.volume_capabilities)
    at_least, at_most = _size(request.capacity_range)
    asked = changes.parse(request.mutable_parameters)
    parsed = params.parse(request.parameters)
    spec = zones.confined(changes.made_with(parsed.spec, asked), request.accessibility_requirements.requisite)
    return CreateRequest(named, at_least, at_most, spec, source(request)), parsed.unused


def expand_request(request: pb.ControllerExpandVolumeRequest) -> ExpandRequest:
    """Raises: InvalidRequest."""
    volume_id = required("volume_id", request.volume_id)
    at_least, at_most = _size(request.capacity_range)
    if not at_least and not at_most:
        raise InvalidRequest("capacity_range", None, "required_bytes, limit_bytes, or both")
    if request.HasField("volume_capability"):
        check_capability(request.volume_capability)
    return ExpandRequest(volume_id, at_least, at_most)


def check_capabilities(capabilities: Iterable[pb.VolumeCapability]) -> None:
    """Every volume serves all access modes; what it can't be is a block device or another file system.

    Raises: InvalidRequest if there are none, or one that no volume of this driver has.
    """
    empty = True
    for capability in capabilities:
        empty = False
        check_capability(capability)
    if empty:
        raise InvalidRequest("volume_capabilities", (), "at least one is required")


def check_capability(capability: pb.VolumeCapability) -> ClientFlags:
    """The mount flags, decoded: a class with a wrong one is told so at once, not when its first pod starts.

    Raises: InvalidRequest.
    """
    modes = pb.VolumeCapability.AccessMode.Mode
    match capability.WhichOneof("access_type"):
        case "block":
            raise InvalidRequest(
                "volume_capability.access_type",
                "block",
                "a GlusterFS volume is a file system; use volumeMode: Filesystem",
            )
        case None:
            raise InvalidRequest("volume_capability.access_type", None, "it is required: mount")
    if capability.mount.fs_type not in _FILE_SYSTEMS:
        raise InvalidRequest(
            "volume_capability.mount.fs_type",
            capability.mount.fs_type,
            "the file system is glusterfs; leave csi.storage.k8s.io/fstype out of the StorageClass",
        )
    mode = capability.access_mode.mode
    known = {number: name for name, number in modes.items() if number != modes.Value("UNKNOWN")}
    if mode not in known:
        raise InvalidRequest(
            "volume_capability.access_mode", mode, f"it is required: one of {', '.join(known.values())}"
        )
    return mountflags.check(capability.mount.mount_flags)


def page_size(max_entries: int) -> int:
    """Raises: InvalidRequest."""
    if max_entries < 0:
        raise InvalidRequest("max_entries", max_entries, "0 for all, or a positive number")
    return max_entries


def volume(record: Volume, servers: tuple[str, ...]) -> pb.Volume:
    return pb.Volume(
        capacity_bytes=record.size,
        volume_id=record.id,
        volume_context=volume_context(record, servers).to_map(),
        content_source=content_source(record),
        accessible_topology=zones.topologies(record.spec),
    )


def volume_context(record: Volume, servers: tuple[str, ...]) -> VolumeContext:
    return VolumeContext(record.gluster_name, servers, record.spec.ping_timeout, record.gid)


def condition(found: Condition) -> pb.VolumeCondition:
    return pb.VolumeCondition(abnormal=found.abnormal, message=found.message)


def disagreement(record: Volume, context: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    """Why a context or parameters can't be this volume's; empty if they can be.

    Raises: InvalidRequest if they can't be any volume's.
    """
    if context:
        claimed = VolumeContext.from_map(context)
        if claimed.gluster_volume != record.gluster_name:
            return f"volume_context names Gluster volume {claimed.gluster_volume!r}, it is {record.gluster_name!r}"
    if parameters and changes.differences(record.spec, params.parse(parameters).spec):
        return "the volume was made with other parameters"
    return ""


def mutable_disagreement(record: Volume, parameters: Mapping[str, str]) -> str:
    """Why the volume has not these mutable parameters; empty if it has. Raises: InvalidRequest if no volume could."""
    if changes.made_with(record.spec, changes.parse(parameters)) == record.spec:
        return ""
    return "mutable_parameters: the volume has others"


def name(text: str) -> str:
    """Of a volume, a snapshot or a group of them. Raises: InvalidRequest."""
    required("name", text)
    if len(text.encode()) > _LONGEST_NAME:
        raise InvalidRequest("name", text, f"up to {_LONGEST_NAME} bytes, this has {len(text.encode())}")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidRequest("name", text, "characters other than control characters")
    return text


def source(request: pb.CreateVolumeRequest) -> Source | None:
    """What a new volume is to be a copy of. Raises: InvalidRequest."""
    if not request.HasField("volume_content_source"):
        return None
    asked = request.volume_content_source
    match asked.WhichOneof("type"):
        case "snapshot":
            known = required("volume_content_source.snapshot.snapshot_id", asked.snapshot.snapshot_id)
            return Source(SourceKind.SNAPSHOT, known)
        case "volume":
            known = required("volume_content_source.volume.volume_id", asked.volume.volume_id)
            return Source(SourceKind.VOLUME, known)
        case None:
            raise InvalidRequest("volume_content_source", None, "a snapshot or a volume; leave it out for neither")


def content_source(record: Volume) -> pb.VolumeContentSource | None:
    match record.source:
        case Source(kind=SourceKind.SNAPSHOT, id=known):
            return pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=known))
        case Source(kind=SourceKind.VOLUME, id=known):
            return pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=known))
        case _:
            return None


def _size(asked: pb.CapacityRange) -> tuple[int, int]:
    """Bytes at least and at most; 0 where the caller does not care."""
    at_least, at_most = asked.required_bytes, asked.limit_bytes
    if at_least < 0:
        raise InvalidRequest("capacity_range.required_bytes", at_least, "0 for any, or a positive number of bytes")
    if at_most < 0:
        raise InvalidRequest("capacity_range.limit_bytes", at_most, "0 for no limit, or a positive number of bytes")
    if at_most and at_least > at_most:
        raise InvalidRequest(
            "capacity_range.limit_bytes", at_most, f"0 for no limit, or at least required_bytes ({at_least})"
        )
    return at_least, at_most

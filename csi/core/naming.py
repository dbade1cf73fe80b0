"""Every derived id, name and path in one place.

Ids are 32 hex digits and functions of names alone, so that a retry without any state finds what the
first try made. Paths on hosts are built here and nowhere else.
"""

from __future__ import annotations

import hashlib
import re

from csi.core.model import (
    Backend,
    BrickId,
    ClusterId,
    DeviceId,
    HostId,
    OperationId,
    OperationKind,
    SnapshotId,
    VolumeId,
)

BRICK_ROOT = "/var/lib/gluster-csi/bricks"
LVM_BRICK_ROOT = "/var/lib/heketi/mounts"  # as Heketi has it: its bricks and ours lie side by side
IDENTITY_FILE = "brick.json"

_ID = re.compile(r"[0-9a-f]{32}")


def _digest(*parts: str) -> str:
    # The parts are joined by a character that none of them can hold, so ("a", "bc") and ("ab", "c") differ.
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def volume_id(csi_name: str) -> VolumeId:
    return VolumeId(_digest("volume", csi_name))


def brick_id(volume: VolumeId, set_index: int, index: int, generation: int = 0) -> BrickId:
    """``generation`` counts the replacements of this place in the volume."""
    return BrickId(_digest("brick", volume, str(set_index), str(index), str(generation)))


def snapshot_id(csi_name: str) -> SnapshotId:
    return SnapshotId(_digest("snapshot", csi_name))


def group_id(csi_name: str) -> str:
    """Of a group of snapshots."""
    return _digest("snapshot group", csi_name)


def member_id(group: str, volume: VolumeId) -> SnapshotId:
    """Of the snapshot of one volume in a group."""
    return SnapshotId(_digest("snapshot of group", group, volume))


def copy_id(snapshot: SnapshotId, set_index: int, index: int) -> BrickId:
    return BrickId(_digest("copy", snapshot, str(set_index), str(index)))


def operation_id(kind: OperationKind, volume: VolumeId) -> OperationId:
    return OperationId(_digest("operation", kind, volume))


def cluster_id(first_host: str) -> ClusterId:
    """``first_host`` is the least manage name of the hosts that the cluster is first loaded with."""
    return ClusterId(_digest("cluster", first_host))


def host_id(manage: str) -> HostId:
    return HostId(_digest("host", manage))


def device_id(host: HostId, path: str) -> DeviceId:
    return DeviceId(_digest("device", host, path))


def gluster_name(volume: VolumeId, prefix: str = "") -> str:
    """The name of the Gluster volume: ``vol_<id>`` as Heketi has it, or ``<prefix>_<id>``."""
    return f"{prefix or 'vol'}_{volume}"


def brick_mount(device: DeviceId, brick: BrickId, backend: Backend = Backend.FILE) -> str:
    """Where the brick's file system is mounted."""
    match backend:
        case Backend.FILE:
            return f"{BRICK_ROOT}/{device}/{brick}"
        case Backend.LVM:
            return f"{LVM_BRICK_ROOT}/{volume_group(device)}/{logical_volume(brick)}"


def brick_directory(device: DeviceId, brick: BrickId, backend: Backend = Backend.FILE) -> str:
    """The directory that gluster is given: never the root of the file system, so that a lost mount is seen."""
    return f"{brick_mount(device, brick, backend)}/brick"


def brick_identity(device: DeviceId, brick: BrickId, backend: Backend = Backend.FILE) -> str:
    return f"{brick_mount(device, brick, backend)}/{IDENTITY_FILE}"


def volume_group(device: DeviceId) -> str:
    return f"vg_{device}"


def logical_volume(brick: BrickId) -> str:
    return f"brick_{brick}"


def logical_copy(copy: BrickId) -> str:
    return f"copy_{copy}"


def thin_pool(brick: BrickId) -> str:
    """Of a brick that we make. Heketi's may have another name: what counts is what LVM says."""
    return f"tp_{brick}"


def mapped_device(device: DeviceId, brick: BrickId) -> str:
    """The block device of a brick of the ``lvm`` backend. No hyphens in it: the device-mapper doubles those."""
    return f"/dev/mapper/{volume_group(device)}-{logical_volume(brick)}"


def brick_image(device_path: str, brick: BrickId) -> str:
    """The image of a brick of the ``file`` backend."""
    return f"{device_path.rstrip('/')}/{brick}.img"

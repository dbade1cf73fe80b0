"""Names, sizes and options of a brick of the ``lvm`` backend: all of them Heketi's."""

from __future__ import annotations

import re

from csi.core import naming, sizes
from csi.core.errors import InvalidRequest
from csi.core.model import BrickRole, PlacedBrick

MOUNT_OPTIONS = "rw,inode64,noatime,nouuid"

_DEVICE = re.compile(r"/dev(/[A-Za-z0-9_.:-]+)+")


def check_device_path(path: str) -> None:
    """Raises: InvalidRequest."""
    if not _DEVICE.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise InvalidRequest("device", path, "give a block device below /dev, by letters, digits and _.:-")


def group(placed: PlacedBrick) -> str:
    return naming.volume_group(placed.device.id)


def names(placed: PlacedBrick) -> tuple[str, str, str]:
    """Volume group, logical volume, and the thin pool that a new one is given."""
    return group(placed), naming.logical_volume(placed.brick.id), naming.thin_pool(placed.brick.id)


def block_device(placed: PlacedBrick) -> str:
    return naming.mapped_device(placed.device.id, placed.brick.id)


def mount_point(placed: PlacedBrick) -> str:
    return naming.brick_mount(placed.device.id, placed.brick.id, placed.device.backend)


def identity_file(placed: PlacedBrick) -> str:
    return naming.brick_identity(placed.device.id, placed.brick.id, placed.device.backend)


def kibibytes(placed: PlacedBrick) -> tuple[str, str, str]:
    """Of the pool's metadata, its data, and the volume."""
    data, metadata = sizes.pool_sizes(placed.brick.size, placed.identity.spec.snap_factor)
    return str(metadata >> 10), str(data >> 10), str(placed.brick.size >> 10)


def format_options(placed: PlacedBrick) -> tuple[str, ...]:
    inodes = "maxpct=100" if placed.brick.role is BrickRole.ARBITER else "size=512"
    return ("-i", inodes, "-n", "size=8192")


def fstab_line(placed: PlacedBrick) -> str:
    return f"{block_device(placed)} {mount_point(placed)} xfs {MOUNT_OPTIONS} 1 2"

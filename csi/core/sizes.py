"""Sizes: what is asked for, what the file system of a brick needs for it, what that takes from a device.

Three sizes follow from one another. *Usable* is the brick's share of the volume; ``filesystem_size`` adds
XFS's log, so that ``df`` shows no less than was asked for; ``footprint`` is what the device loses.
The measurements are in ``docs/decisions/placement.md``.
"""

from __future__ import annotations

from csi.core.errors import InvalidRequest, SizeOutOfRange
from csi.core.model import Backend

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

GRAIN = 4 * MIB  # LVM's extent, kept for images too so that both backends place alike
XFS_MINIMUM = 300 * MIB  # mkfs.xfs: "Filesystem must be larger than 300MB", and takes exactly this
LARGEST_VOLUME = (1 << 63) - GRAIN  # CSI's sizes are signed 64-bit numbers

# mkfs.xfs makes the log 1/2048 of the file system within these bounds; statfs does not count the log as blocks.
_LOG_SHARE = 2048
_LOG_MINIMUM = 64 * MIB
_LOG_MAXIMUM = 2040 * MIB  # measured: 2038

_POOL_METADATA_MAXIMUM = 16 * GIB

ARBITER_PER_FILE = KIB  # an arbiter keeps names and extended attributes, no data


def round_up(size: int, unit: int = GRAIN) -> int:
    return -(-size // unit) * unit


def round_down(size: int, unit: int = GRAIN) -> int:
    return size // unit * unit


def _log(filesystem: int) -> int:
    return min(max(-(-filesystem // _LOG_SHARE), _LOG_MINIMUM), _LOG_MAXIMUM)


def usable_size(filesystem: int) -> int:
    """What ``df`` shows as the size of a file system made in ``filesystem`` bytes."""
    return filesystem - _log(filesystem)


def filesystem_size(usable: int) -> int:
    """The least file system whose ``usable_size`` is at least ``usable``."""
    size = max(round_up(usable + _LOG_MINIMUM), XFS_MINIMUM)
    if usable_size(size) < usable:
        exact = -(-usable * _LOG_SHARE // (_LOG_SHARE - 1))
        size = round_up(min(exact, usable + _LOG_MAXIMUM))
    return size


SMALLEST_VOLUME = usable_size(XFS_MINIMUM)


def choose(required: int, limit: int, default: int = GIB) -> int:
    """The size of a new volume; 0 where the caller does not care.

    Raises: InvalidRequest for a range that makes no sense, SizeOutOfRange for one that no volume can meet.
    """
    for name, value in (("required_bytes", required), ("limit_bytes", limit)):
        if value < 0:
            raise InvalidRequest(f"capacity_range.{name}", value, "0 (any) or a positive number of bytes")
    if limit and required > limit:
        raise InvalidRequest("capacity_range.required_bytes", required, f"at most limit_bytes, which is {limit}")
    if limit and limit < SMALLEST_VOLUME:
        raise SizeOutOfRange(
            f"capacity_range.limit_bytes: {limit} is less than the smallest volume, {SMALLEST_VOLUME} bytes"
            f" (XFS takes no less than {XFS_MINIMUM}): raise the limit or leave it out"
        )
    if required > LARGEST_VOLUME:
        raise SizeOutOfRange(
            f"capacity_range.required_bytes: {required} is more than any volume can have, {LARGEST_VOLUME} bytes"
        )
    if not required:
        return min(default, round_down(limit)) if limit else default
    size = max(round_up(required), SMALLEST_VOLUME)
    return min(size, limit) if limit else size


def arbiter_size(usable: int, average_file_size: int) -> int:
    """The usable size of the arbiter beside data bricks of ``usable`` bytes; never more than theirs."""
    wanted = -(-usable // average_file_size) * ARBITER_PER_FILE
    return min(usable, max(wanted, SMALLEST_VOLUME))


def _pool_metadata(pool: int) -> int:
    return round_up(min(pool // 200, _POOL_METADATA_MAXIMUM))


def largest_metadata(capacity: int) -> int:
    """Of a thin pool on a device with ``capacity`` bytes for bricks: LVM's spare for it is taken off for no more."""
    return _pool_metadata(capacity)


def footprint(backend: Backend, brick_size: int, snap_factor: float) -> int:
    """What a brick with a file system of ``brick_size`` bytes takes from its device.

    ``snap_factor`` keeps room for what snapshots will hold back: 1.5 is half as much again.
    """
    reserved, metadata = pool_sizes(brick_size, snap_factor)
    match backend:
        case Backend.FILE:
            return reserved
        case Backend.LVM:
            return reserved + metadata


def pool_sizes(brick_size: int, snap_factor: float) -> tuple[int, int]:
    """Data and metadata of a brick's thin pool: Heketi's 0.5 %, at most 16 GiB, in whole extents."""
    reserved = round_up(max(brick_size, int(brick_size * snap_factor)))
    return reserved, _pool_metadata(reserved)


def largest_filesystem(backend: Backend, free: int, snap_factor: float) -> int:
    """The largest brick, in whole grains, whose footprint is at most ``free``; 0 if there is none."""
    pool = free if backend is Backend.FILE else max(free * 200 // 201, free - _POOL_METADATA_MAXIMUM)
    size = round_up(int(max(0, pool) / max(1.0, snap_factor))) + GRAIN
    while size > 0 and footprint(backend, size, snap_factor) > free:  # a step or two: rounding
        size -= GRAIN
    return size


def device_capacity(backend: Backend, raw: int) -> int:
    """What bricks may use of a device that has ``raw`` bytes (of its volume group, or of its file system).

    LVM keeps a spare for the metadata of its largest pool, which no brick's footprint counts: it is taken
    off here for the largest pool that the device could carry.
    """
    match backend:
        case Backend.FILE:
            return round_down(raw)
        case Backend.LVM:
            return max(0, round_down(raw) - _pool_metadata(raw))

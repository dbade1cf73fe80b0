"""Copies of bricks as records: what a snapshot is made of, and what a volume that begins as a copy will be.

A copy lies on the device of its brick, and so does what is made of it: nothing is moved. Space is counted as if nothing
were shared, since in the end nothing may be: a copy by what was in its brick, a brick by its size, as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from csi.core import gids, naming, sizes
from csi.core.errors import InvalidRequest, NoRoom, SizeOutOfRange
from csi.core.inventory import Inventory
from csi.core.model import (
    Availability,
    Brick,
    ClusterId,
    Copy,
    DeviceId,
    Gid,
    RestoreGid,
    Snapshot,
    SnapshotId,
    Source,
    Volume,
    VolumeId,
    VolumeSpec,
)
from csi.core.placement.splits import Split

_SLACK_SHARE = 20
_SLACK = 16 * sizes.MIB


@dataclass(frozen=True, slots=True)
class Origin:
    """What a new volume begins as a copy of: a snapshot's copies, or a volume's bricks."""

    source: Source
    what: str  # for people
    cluster_id: ClusterId
    size: int
    spec: VolumeSpec
    gid: Gid
    parts: tuple[Copy, ...] | tuple[Brick, ...]

    @classmethod
    def of(cls, source: Source, of: Snapshot | Volume) -> Origin:
        kind, parts = ("volume", of.bricks) if isinstance(of, Volume) else ("snapshot", of.copies)
        return cls(source, f"{kind} {of.name!r}", of.cluster_id, of.size, of.spec, of.gid, parts)


def planned(snapshot: SnapshotId, volume: Volume, taken: Sequence[int]) -> tuple[Copy, ...]:
    """The copies of a snapshot. ``taken[i]`` is what a copy of ``volume.bricks[i]`` would take now, in bytes.

    Until it is made its brick is written to: a little more is set aside for that.
    """
    return tuple(
        Copy(
            id=naming.copy_id(snapshot, brick.set, brick.index),
            set=brick.set,
            index=brick.index,
            host_id=brick.host_id,
            device_id=brick.device_id,
            size=brick.size,
            footprint=min(footprint(now + now // _SLACK_SHARE + _SLACK), max(brick.size, footprint(now))),
            role=brick.role,
        )
        for brick, now in zip(volume.bricks, taken, strict=True)
    )


def footprint(taken: int) -> int:
    """Of a copy in which ``taken`` bytes are."""
    return sizes.round_up(taken)


def restored(
    inventory: Inventory, origin: Origin, *, volume: VolumeId, name: str, size: tuple[int, int], spec: VolumeSpec
) -> Volume:
    """The volume, with its bricks beside those that they are copies of. ``size``: at least, at most; 0 for any.

    It has the GID of its origin, since its files have it; or one of its own, if the class says so.

    Raises: InvalidRequest for a class that cannot have it, SizeOutOfRange, NoRoom, GidsExhausted.
    """
    _check_class(inventory, spec, origin)
    bytes_ = _size(*size, origin)
    bricks = []
    for part in origin.parts:
        filesystem = part.size
        if bytes_ > origin.size:
            sets = len(origin.parts) // origin.spec.durability.set_size
            share = -(-bytes_ // (sets * origin.spec.durability.data))
            filesystem = max(filesystem, Split(sets, share, spec).filesystem(part.role))
        device = inventory.devices[part.device_id]
        brick_id = naming.brick_id(volume, part.set, part.index)
        bricks.append(
            Brick(
                id=brick_id,
                set=part.set,
                index=part.index,
                host_id=part.host_id,
                device_id=device.id,
                size=filesystem,
                footprint=sizes.footprint(device.backend, filesystem, spec.snap_factor),
                path=naming.brick_directory(device.id, brick_id, device.backend),
                role=part.role,
            )
        )
    check_room(inventory, bricks, f"a copy of {origin.what}")
    new = spec.restore_gid is RestoreGid.NEW
    return Volume(
        id=volume,
        name=name,
        gluster_name=naming.gluster_name(volume, spec.name_prefix),
        cluster_id=origin.cluster_id,
        size=bytes_,
        spec=spec,
        bricks=tuple(bricks),
        gid=gids.next_gid(inventory, spec) if new else origin.gid,
        source=origin.source,
        regroup_from=origin.gid if new else None,
    )


def _check_class(inventory: Inventory, spec: VolumeSpec, origin: Origin) -> None:
    if spec.cluster_ids and origin.cluster_id not in spec.cluster_ids:
        raise InvalidRequest(
            "parameter clusterId",
            ",".join(spec.cluster_ids),
            f"{origin.what} is in cluster {origin.cluster_id}, and copies stay there: use a class with that cluster",
        )
    if spec.durability != origin.spec.durability:
        raise InvalidRequest(
            "parameter volumeType",
            str(spec.durability),
            f"{origin.what} is {origin.spec.durability}, and so is a copy of it: use a class with that type",
        )
    if spec.zones:
        lies_in = {inventory.hosts[part.host_id].zone for part in origin.parts}
        if outside := sorted(lies_in - set(spec.zones)):
            raise InvalidRequest(
                "accessibility_requirements",
                ",".join(map(str, spec.zones)),
                f"{origin.what} lies in zone {', '.join(map(str, outside))} too, and copies stay beside it",
            )


def _size(at_least: int, at_most: int, origin: Origin) -> int:
    if at_least and at_least < origin.size:
        raise SizeOutOfRange(
            f"capacity_range.required_bytes: {at_least} is less than {origin.what} has, {origin.size} bytes: ask for "
            "as much, or for more"
        )
    if at_most and at_most < origin.size:
        raise SizeOutOfRange(
            f"capacity_range.limit_bytes: {at_most} is less than {origin.what} has, {origin.size} bytes: raise it"
        )
    if at_least <= origin.size:
        return origin.size
    return sizes.choose(at_least, at_most)


def check_room(inventory: Inventory, parts: Sequence[Brick] | Sequence[Copy], what: str) -> None:
    """Raises: NoRoom naming the devices."""
    wanted: Counter[DeviceId] = Counter()
    for part in parts:
        wanted[part.device_id] += part.footprint
    lacking = []
    for device_id, by in sorted(wanted.items()):
        device = inventory.devices[device_id]
        host = inventory.hosts[device.host_id]
        place = f"{host.manage}:{device.path}"
        if device.state is not Availability.ONLINE or host.state is not Availability.ONLINE:
            lacking.append(f"{place} is closed for new bricks")
        elif by > inventory.free(device):
            lacking.append(f"{place} has {max(0, inventory.free(device))} bytes free, and it may take {by}")
    if lacking:
        raise NoRoom(
            f"no room for {what}, which lies on the devices of what it is a copy of: {'; '.join(lacking)}: delete "
            "snapshots or volumes there, or enlarge the devices"
        )

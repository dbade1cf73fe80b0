"""A volume group and its thin pools, from what LVM says: how full they are, and what is promised in them."""

from __future__ import annotations

from collections.abc import Iterator

from csi.bricks import lvmtags
from csi.bricks.lvmreport import LogicalVolume, VolumeGroup
from csi.core import naming
from csi.core.model import BrickId, BrickIdentity, DeviceId
from csi.core.pools import GroupFullness, PoolFullness, Slack

EXTENT = 4 << 20


def fullness(device: DeviceId, group: VolumeGroup) -> GroupFullness:
    # LVM's spare is as large as the largest metadata; what bricks may use of a device is without it already.
    spare = max((volume.metadata_size for volume in group.volumes.values()), default=0)
    taken = (group.extents - group.free) * EXTENT - spare
    members = _members(group)
    return GroupFullness(device, taken, tuple(_pools(device, group, members)), tuple(_slack(group, members)))


def _members(group: VolumeGroup) -> dict[str, list[LogicalVolume]]:
    """Of each pool."""
    members: dict[str, list[LogicalVolume]] = {}
    for volume in sorted(group.volumes.values(), key=lambda one: one.name):
        if volume.pool in group.volumes:
            members.setdefault(volume.pool, []).append(volume)
    return members


def _pools(device: DeviceId, group: VolumeGroup, members: dict[str, list[LogicalVolume]]) -> Iterator[PoolFullness]:
    """Those that have bricks of ours in them and are active: of others LVM does not know how full they are."""
    for name, volumes in members.items():
        pool = group.volumes[name]
        bricks = [found for volume in volumes if (found := _brick(group, volume)) is not None]
        if not bricks or pool.data_percent is None or pool.metadata_percent is None:
            continue
        copies = [one.copy.id for volume in volumes if (one := lvmtags.read_copy(volume.tags)) is not None]
        yield PoolFullness(
            device=device,
            name=f"{group.name}/{name}",
            bricks=tuple(found.brick.id for found in bricks),
            copies=tuple(copies),
            volumes=tuple(dict.fromkeys(found.volume_name for found in bricks)),
            data=pool.data_percent,
            metadata=pool.metadata_percent,
            size=pool.size,
            metadata_size=pool.metadata_size,
            promised=sum(map(_promised, volumes)),
            room=group.free * EXTENT,
        )


def _slack(group: VolumeGroup, members: dict[str, list[LogicalVolume]]) -> Iterator[Slack]:
    for name, volumes in members.items():
        beyond = group.volumes[name].size - sum(map(_promised, volumes))
        if beyond > 0:
            yield Slack(frozenset(id_ for volume in volumes if (id_ := _id(group, volume))), beyond)


def _id(group: VolumeGroup, volume: LogicalVolume) -> BrickId | None:
    """Of a brick or copy of ours."""
    if (brick := _brick(group, volume)) is not None:
        return brick.brick.id
    copy = lvmtags.read_copy(volume.tags)
    return copy.copy.id if copy is not None else None


def _brick(group: VolumeGroup, volume: LogicalVolume) -> BrickIdentity | None:
    """A snapshot that somebody made of a brick has no tags, or those of the brick: its name is another."""
    found = lvmtags.read_brick(group.tags_of(volume))
    return found if found is not None and volume.name == naming.logical_volume(found.brick.id) else None


def _promised(volume: LogicalVolume) -> int:
    """As hosts/lvmcopies.sh counts it: a copy by its share, anything else by its size."""
    share = 0 if volume.name.startswith("brick_") else lvmtags.share(volume.tags)
    return share or volume.size

"""What LVM says of volume groups and their volumes, as ``csi_lvm_report`` (hosts/lvm.sh) prints it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A row. ``size`` and ``metadata_size`` in bytes; the percentages are of what is active, else None."""

    name: str
    pool: str
    tags: str
    size: int
    active: bool
    data_percent: float | None = None
    metadata_percent: float | None = None
    metadata_size: int = 0  # of a thin pool


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    name: str
    tags: str
    missing: int  # disks
    extents: int
    free: int  # extents
    volumes: dict[str, LogicalVolume] = field(default_factory=dict)

    def tags_of(self, volume: LogicalVolume) -> str:
        """Its own, or those of its pool."""
        pool = self.volumes.get(volume.pool)
        return volume.tags or (pool.tags if pool is not None else "")


def read(text: str) -> dict[str, VolumeGroup]:
    """By name. Lines that are neither a group nor a volume are passed over."""
    groups: dict[str, VolumeGroup] = {}
    rows = [line.strip().split("|") for line in text.splitlines()]
    for row in rows:
        if len(row) == 5:
            groups[row[0]] = VolumeGroup(row[0], row[1], int(row[2]), int(row[3]), int(row[4]))
    for row in rows:
        if len(row) == 9 and row[0] in groups:
            groups[row[0]].volumes[row[1]] = _volume(row)
    return groups


def _volume(row: Iterable[str]) -> LogicalVolume:
    _, name, pool, tags, size, active, data, metadata, metadata_size = row
    return LogicalVolume(
        name,
        pool,
        tags,
        int(size),
        active == "active",
        float(data) if data else None,
        float(metadata) if metadata else None,
        int(metadata_size or 0),
    )

"""LVM of a simulated host: physical volumes, volume groups, thin pools and the thin volumes in them.

What is refused, in which words and with which status, was recorded from the real LVM 2.03.16: ``tests/recorded/lvm``.
Sizes are in physical extents of 4 MiB. What a boot leaves: all but what is active and mounted.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from csi.hosts.simulated.filesystem import BlockDevice, FileSystem, copy_directory

EXTENT = 4 << 20
NAME = re.compile(r"[a-zA-Z0-9_+.][a-zA-Z0-9_+.-]*")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class RefusedByLvm(Exception):
    """What LVM prints, a line each, and its exit status. ``committed``: something was changed all the same."""

    def __init__(self, *lines: str, status: int = 5, committed: bool = False) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.status = status
        self.committed = committed


def new_uuid() -> str:
    """In LVM's form: groups of 6, 4, 4, 4, 4, 4 and 6."""
    word = uuid.uuid4().hex
    return "-".join((word[:6], word[6:10], word[10:14], word[14:18], word[18:22], word[22:26], word[26:]))


def readable(size: int) -> str:
    """As LVM writes sizes for people: "512.00 MiB"; "<" before one that was rounded up."""
    power = min((max(size, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    value = size / (1 << 10 * power)
    return f"{'<' if round(value, 2) > value else ''}{value:.2f} {_UNITS[power]}"


def extents(size: int) -> int:
    """A size in bytes, rounded up as LVM does."""
    return -(-size // EXTENT)


@dataclass(slots=True, eq=False)
class PhysicalVolume:
    device: BlockDevice
    start: int  # of the first extent, bytes
    uuid: str = field(default_factory=new_uuid)
    group: VolumeGroup | None = None

    @property
    def total(self) -> int:
        return (self.device.size - self.start) // EXTENT


@dataclass(slots=True, eq=False)
class ThinPool:
    """``space`` is what the data of its volumes takes: a full pool is ENOSPC for all of them."""

    name: str
    data: int
    metadata: int
    chunk: int
    space: FileSystem
    active: bool = True
    tags: set[str] = field(default_factory=set)
    metadata_used: int = 0  # bytes, beyond what an empty pool has; for tests, since nothing here counts it


@dataclass(slots=True, eq=False)
class ThinVolume:
    """``skip``: only activated when told to ignore the flag. ``shared``: bytes that another volume accounts for."""

    name: str
    pool: ThinPool
    size: int
    device: BlockDevice
    origin: str = ""
    skip: bool = False
    active: bool = False
    shared: int = 0
    tags: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class VolumeGroup:
    """``spare``: LVM keeps room to repair the pool with the largest metadata, from the first pool to the last."""

    name: str
    devices: list[PhysicalVolume]
    uuid: str = field(default_factory=new_uuid)
    tags: set[str] = field(default_factory=set)
    spare: int = 0
    pools: dict[str, ThinPool] = field(default_factory=dict)
    volumes: dict[str, ThinVolume] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(device.total for device in self.devices)

    @property
    def allocated(self) -> int:
        return self.spare + sum(pool.data + pool.metadata for pool in self.pools.values())

    @property
    def free(self) -> int:
        return self.total - self.allocated

    def volumes_of(self, pool: ThinPool) -> list[ThinVolume]:
        return [volume for volume in self.volumes.values() if volume.pool is pool]

    def find(self, name: str) -> ThinPool | ThinVolume:
        """Raises: RefusedByLvm."""
        found = self.volumes.get(name) or self.pools.get(name)
        if found is None:
            raise RefusedByLvm(f'Failed to find logical volume "{self.name}/{name}"')
        return found

    def names_of(self, name: str) -> tuple[str, str]:
        """The device-mapper name, in which hyphens are doubled, and the one for people."""
        doubled = "-".join(part.replace("-", "--") for part in (self.name, name))
        return f"/dev/mapper/{doubled}", f"/dev/{self.name}/{name}"


class VolumeManager:
    """All that LVM knows of a machine. ``blocks`` are the machine's; active volumes appear there under their names."""

    def __init__(self, blocks: dict[str, BlockDevice], in_use: Callable[[BlockDevice], bool]) -> None:
        self.blocks = blocks
        self.in_use = in_use
        self.physical: dict[str, PhysicalVolume] = {}
        self.groups: dict[str, VolumeGroup] = {}
        self.turn = 0  # how many calls have changed something

    def group(self, name: str) -> VolumeGroup:
        """Raises: RefusedByLvm."""
        found = self.groups.get(name)
        if found is None:
            raise RefusedByLvm(f'Volume group "{name}" not found', f"Cannot process volume group {name}")
        return found

    # --- physical volumes and groups ---

    def device(self, path: str) -> BlockDevice:
        """Raises: RefusedByLvm."""
        found = self.blocks.get(path)
        if found is None:
            raise RefusedByLvm(f"No device found for {path}.")
        return found

    def label(self, path: str, start: int) -> PhysicalVolume:
        """``pvcreate``. Raises: RefusedByLvm if the device belongs to a group."""
        device = self.device(path)
        present = self.physical.get(device.path)
        if present is not None and present.group is not None:
            raise RefusedByLvm(
                f'Can\'t initialize physical volume "{path}" of volume group "{present.group.name}" without -ff',
                f"{path}: physical volume not initialized.",
            )
        device.filesystem, device.member = None, True
        self.physical[device.path] = made = PhysicalVolume(device, start)
        return made

    def unlabel(self, path: str) -> None:
        """``pvremove``. Raises: RefusedByLvm."""
        device = self.device(path)
        present = self.physical.get(device.path)
        if present is None:
            raise RefusedByLvm(f"No PV found on device {path}.")
        if present.group is not None:
            raise RefusedByLvm(
                f"PV {path} is used by VG {present.group.name} so please use vgreduce first.",
                "(If you are certain you need pvremove, then confirm by using --force twice.)",
                f"{path}: physical volume label not removed.",
            )
        device.member = False
        del self.physical[device.path]

    def make_group(self, name: str, members: list[PhysicalVolume], tags: set[str]) -> None:
        self.groups[name] = group = VolumeGroup(name, members, tags=tags)
        for member in members:
            member.group = group

    def remove_group(self, group: VolumeGroup) -> list[str]:
        """The names of the volumes that went with it, in order. Raises: RefusedByLvm for one that is in use."""
        self._refuse_removal(group)
        gone = [name for pool in tuple(group.pools.values()) for name in self.remove(group, pool)]
        for member in group.devices:
            member.group = None
        del self.groups[group.name]
        return gone

    def _refuse_removal(self, group: VolumeGroup) -> None:
        """If a volume is in use. LVM finds that when it has deactivated the others, and leaves them so."""
        used = [volume for volume in group.volumes.values() if self.in_use(volume.device)]
        if not used:
            return
        for volume in group.volumes.values():
            if volume not in used:
                self.deactivate(group, volume)
        for pool in group.pools.values():
            pool.active = any(volume.pool is pool for volume in used)
        self._refuse_in_use(group, used[0])

    # --- pools and volumes ---

    def make_pool(self, group: VolumeGroup, name: str, data: int, metadata: int, chunk: int) -> ThinPool:
        """Raises: RefusedByLvm: the name is taken, or there is no room for data, metadata and spare."""
        if name in group.pools or name in group.volumes:
            raise RefusedByLvm(f"Logical volume {name} already exists in Volume group {group.name}.")
        growth = max(0, metadata - group.spare)
        # The spare comes first. One that is new is made, written down and taken back.
        first = group.spare == 0
        left = group.free - growth
        if left < 0:
            raise RefusedByLvm(f"Insufficient free space: {growth} extents needed, but only {group.free} available")
        if data > left:
            raise RefusedByLvm(
                f'Volume group "{group.name}" has insufficient free space ({left} extents): {data} required.',
                committed=first,
            )
        if data + metadata > left:
            raise RefusedByLvm(
                f"Insufficient free space: {data + metadata} extents needed, but only {left} available",
                committed=first,
            )
        group.spare += growth
        group.pools[name] = pool = ThinPool(name, data, metadata, chunk, FileSystem("thin-pool", data * EXTENT))
        return pool

    def make_volume(self, group: VolumeGroup, pool: ThinPool, name: str, size: int) -> ThinVolume:
        """Raises: RefusedByLvm: the name is taken."""
        self._refuse_taken(group, name)
        device = BlockDevice(group.names_of(name)[0], size * EXTENT, below=pool.space)
        group.volumes[name] = volume = ThinVolume(name, pool, size, device)
        self.activate(group, volume)
        return volume

    def snapshot(self, group: VolumeGroup, origin: ThinVolume, name: str, *, skip: bool, tags: set[str]) -> ThinVolume:
        """A thin snapshot, active unless ``skip``. Raises: RefusedByLvm: the name is taken."""
        self._refuse_taken(group, name)
        source = origin.device.filesystem
        device = BlockDevice(group.names_of(name)[0], origin.device.size, below=origin.pool.space)
        if source is not None:
            device.filesystem = FileSystem(
                source.kind, source.capacity, source.used, copy_directory(source.root), source.below, uuid=source.uuid
            )
        shared = source.used if source else 0
        volume = ThinVolume(name, origin.pool, origin.size, device, origin.name, skip, shared=shared, tags=tags)
        group.volumes[name] = volume
        if not skip:
            self.activate(group, volume)
        return volume

    def _refuse_taken(self, group: VolumeGroup, name: str) -> None:
        if name in group.volumes or name in group.pools:
            raise RefusedByLvm(f'Logical Volume "{name}" already exists in volume group "{group.name}"')

    def _refuse_in_use(self, group: VolumeGroup, volume: ThinVolume) -> None:
        if self.in_use(volume.device):
            raise RefusedByLvm(f"Logical volume {group.name}/{volume.name} contains a filesystem in use.")

    def remove(self, group: VolumeGroup, doomed: ThinPool | ThinVolume) -> list[str]:
        """The names of what is gone: a pool takes its volumes with it. The last pool takes the spare with it.

        Raises: RefusedByLvm for a volume that is in use; those that came before it are gone.
        """
        if isinstance(doomed, ThinVolume):
            self._remove_volume(group, doomed)
            return [doomed.name]
        gone = []
        for volume in group.volumes_of(doomed):
            self._remove_volume(group, volume)
            gone.append(volume.name)
        del group.pools[doomed.name]
        if not group.pools:
            group.spare = 0
        return [*gone, doomed.name]

    def _remove_volume(self, group: VolumeGroup, volume: ThinVolume) -> None:
        self.deactivate(group, volume)
        del group.volumes[volume.name]
        heirs = [other for other in group.volumes.values() if other.origin == volume.name]
        for heir in heirs:
            heir.origin = ""
        held = (volume.device.filesystem.used if volume.device.filesystem else 0) - volume.shared
        if heirs:
            # Snapshots outlive their origin: one of them accounts for the shared data from now on.
            kept = min(held, heirs[0].shared)
            heirs[0].shared -= kept
            held -= kept
        volume.pool.space.give_back(held)

    # --- growing ---

    def grow_pool(self, group: VolumeGroup, pool: ThinPool, data: int, metadata: int) -> None:
        """By so many extents; the spare grows with the metadata. Raises: RefusedByLvm."""
        growth = max(0, pool.metadata + metadata - group.spare)
        needed = data + metadata
        if needed + growth > group.free:
            free = group.free - (growth if needed <= group.free else 0)
            raise RefusedByLvm(f"Insufficient free space: {needed} extents needed, but only {free} available")
        group.spare += growth
        pool.data += data
        pool.metadata += metadata
        pool.space.capacity = pool.data * EXTENT

    def grow_volume(self, volume: ThinVolume, size: int) -> None:
        """By so many extents. The file system on it stays as large as it is."""
        volume.size += size
        volume.device.size = volume.size * EXTENT

    # --- activation ---

    def activate(self, group: VolumeGroup, volume: ThinVolume) -> None:
        volume.active = volume.pool.active = True
        for name in group.names_of(volume.name):
            self.blocks[name] = volume.device

    def deactivate(self, group: VolumeGroup, volume: ThinVolume) -> None:
        """Raises: RefusedByLvm if it is in use."""
        self._refuse_in_use(group, volume)
        volume.active = False
        for name in group.names_of(volume.name):
            self.blocks.pop(name, None)

    def _all(self) -> Iterator[tuple[VolumeGroup, ThinVolume]]:
        return ((group, volume) for group in self.groups.values() for volume in group.volumes.values())

    def lose_power(self) -> None:
        for group, volume in self._all():
            self.deactivate(group, volume)
            volume.pool.active = False

    def activate_all(self) -> None:
        """What a boot does: every volume is active but those with the flag "skip activation"."""
        for group in self.groups.values():
            for pool in group.pools.values():
                pool.active = True
        for group, volume in self._all():
            if not volume.skip:
                self.activate(group, volume)

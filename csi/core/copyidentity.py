"""Whose a copy of a brick is, as it says so itself, and the records that it stands on."""

from __future__ import annotations

from dataclasses import dataclass

from csi.core.model import BrickId, ClusterId, Copy, Device, Gid, Host, SnapshotId, VolumeId, VolumeSpec


@dataclass(frozen=True, slots=True)
class CopyIdentity:
    """Whose a copy is; written beside it. It is all that is needed to find a snapshot again without any state."""

    instance: str
    snapshot_id: SnapshotId
    snapshot_name: str
    volume_id: VolumeId
    volume_name: str
    cluster_id: ClusterId
    volume_size: int
    spec: VolumeSpec
    gid: Gid
    copy: Copy
    group_id: str = ""
    group_name: str = ""
    total: int = 0  # how many copies the snapshot has; 0: it does not say
    schema: int = 1

    def owner(self) -> tuple[str, SnapshotId, BrickId, int, int]:
        """The part that must agree before the copy is destroyed."""
        return (self.instance, self.snapshot_id, self.copy.id, self.copy.set, self.copy.index)


@dataclass(frozen=True, slots=True)
class PlacedCopy:
    """A copy together with the records that it stands on."""

    identity: CopyIdentity
    host: Host
    device: Device

    @property
    def copy(self) -> Copy:
        return self.identity.copy

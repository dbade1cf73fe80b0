"""What the node's service needs of the world besides a ``Mounter``: what it remembers, learns and tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from csi.mountports import MountSource


class ServerLists(Protocol):
    """Who knows the present servers of a volume; what a PersistentVolume says of them is as old as the volume."""

    async def servers_of(self, volume_id: str) -> tuple[str, ...]:
        """In this node's order of preference; empty if nothing is known. Never raises."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bind mount that is to be made anew."""

    target: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Staged:
    """A volume that is mounted at its staging path. ``rebind``: what a repair has still to bind, if there is one."""

    volume_id: str
    source: MountSource
    staging: str
    rebind: tuple[Bound, ...] | None = None


class StagedVolumes(Protocol):
    """What is staged on this node, until its next reboot: a mount whose client has died does not tell how it was made.

    A record that is lost costs only that the mount is not repaired before it is asked for again; so nothing raises.
    """

    async def put(self, staged: Staged) -> None: ...

    async def remove(self, staging: str) -> None: ...

    async def all(self) -> tuple[Staged, ...]: ...


class Publications(Protocol):
    async def published(self, volume_id: str, target: str, gid: int) -> None:
        """A pod has the volume of group ``gid`` at ``target`` now. Never raises."""


class NoticeKind(Enum):
    GROUP_MISSING = "VolumeGroupMissing"  # the pod does not get the volume's group
    RESTART_POD = "RestartPod"  # the client died and was replaced; the pod may still see the dead mount
    MOUNT_LOST = "MountLost"  # the client died and can't be replaced yet


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the owner of a pod has to know. ``pod``: its UID, empty where the path does not tell."""

    kind: NoticeKind
    volume_id: str
    path: str
    pod: str
    text: str


class Notices(Protocol):
    async def tell(self, notice: Notice) -> None:
        """Never raises: what it is about has happened anyway."""

"""What a node needs to mount volumes, as protocols. See ``ports.py``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class MountSource:
    """What to mount: ``servers`` in order of preference, the Gluster volume, options of the client (checked)."""

    servers: tuple[str, ...]
    volume: str
    ping_timeout: int = 8  # seconds
    flags: tuple[str, ...] = ()  # mount flags of the user, checked by ``core/mountflags.py``
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a mounted file system says of itself, in bytes and inodes. ``available`` is what users can still write."""

    total: int
    used: int
    available: int
    inodes: int
    inodes_used: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class MountState:
    """What is mounted at a path. ``alive``: it answered a ``statfs`` within a deadline, with ``usage``."""

    source: str  # "SERVER:/VOLUME"
    fstype: str
    device: str  # "major:minor" of the superblock
    options: tuple[str, ...]  # of this mount
    alive: bool
    usage: Usage | None = None
    reason: str = ""  # why it is not alive
    dead: bool = False  # its client has gone, so it will never be alive again
    root: str = "/"  # the directory of the file system that is mounted there


class Clients(Protocol):
    """Who starts and ends GlusterFS clients: processes that outlive the one that asks for them. Paths are resolved.

    All raise Unavailable if nobody is there to do it.
    """

    async def start(self, source: MountSource, target: str) -> None:
        """A client at ``target``; returns when it is seen to be alive from here. One that is there already is fine.

        Raises: MountFailed, with nothing left that was not there before.
        """

    async def runs(self, targets: Collection[str]) -> bool:
        """Whether a client runs that was told to mount at one of them."""

    async def end(self, volume: str, target: str, device: str, *, silent: bool = False) -> None:
        """``device`` has been unmounted at ``target``, its last place: its client ends, or is ended.

        ``silent``: it did not answer before, so it gets less time. Raises: MountFailed.
        """


class Mounter(Protocol):
    async def mount(self, source: MountSource, target: str) -> None:
        """A GlusterFS client of its own at ``target``; returns when it is seen to be alive.

        The same again is fine. Raises: MountFailed (also if another client is mounted there), Unavailable.
        """

    async def bind(self, source: str, target: str, options: Sequence[str]) -> None:
        """Bind ``source`` at ``target`` with the per-mount ``options`` (ro, nosuid, ...); it is seen to be there.

        Over what is mounted there already, dead or alive; whoever sees that one by propagation sees the new one too.
        Raises: MountFailed, with nothing left of it at ``target``.
        """

    async def unmount(self, target: str) -> None:
        """Unmount whatever is at ``target``, dead or alive; nothing there is fine. Raises: MountFailed (busy)."""

    async def inspect(self, target: str) -> MountState | None:
        """None if nothing is mounted exactly at ``target``."""

    async def mounts_of(self, device: str, apart_from: Sequence[str] = ()) -> tuple[str, ...]:
        """The paths at which the superblock ``major:minor`` is mounted, each place once.

        The places of the paths ``apart_from`` are left out, by whatever name the kernel has them.
        """

    async def make_directory(self, path: str) -> bool:
        """An empty directory to mount on; True if it was not there before. Raises: MountFailed if it is not empty."""

    async def remove_directory(self, path: str) -> None:
        """Nothing there is fine. Raises: MountFailed if it is not empty or a mount point: never more than a rmdir."""

    async def close(self) -> None:
        """Let go of what it needs to look at mounts. The mounts themselves stay."""

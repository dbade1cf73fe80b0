"""Copies of bricks, as a protocol: what snapshots, restores and clones need of a backend.

A backend that can do it is a ``ports.BrickBackend`` that has these methods too. In what order the service calls them:

    flush      what waits to be written is written, and a copy is measured; nothing is held up
    copy       all bricks of a host at one moment; its bricks may stay frozen
    release    they are written to again, on all hosts after all of them have been copied
    seal       the copies are safe from a power cut; not called where ``copy`` has told what they take
    adopt      in its place, for bricks of a new volume

While bricks are frozen whoever writes to them waits. So the host itself ends that within the bound, whatever becomes
of us. Bricks that are copied by something that freezes them by itself, and for that moment only, need none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from csi.core.copyidentity import CopyIdentity, PlacedCopy
from csi.core.model import Device, Gid, Host, PlacedBrick, Volume


@dataclass(frozen=True, slots=True)
class Pair:
    """A brick, and what is to be a copy of it: one to keep, or a brick of a new volume that has not been made yet."""

    brick: PlacedBrick
    target: PlacedCopy | PlacedBrick


@dataclass(frozen=True, slots=True)
class Filling:
    """A copy, and the brick of a new volume that is to begin as a copy of it."""

    copy: PlacedCopy
    brick: PlacedBrick


@dataclass(frozen=True, slots=True)
class Hold:
    """How long bricks may stay frozen, in seconds, and the name by which the host knows that. One name, one hold."""

    name: str
    bound: float


@dataclass(frozen=True, slots=True)
class Flushed:
    """``taken``: what a copy of each brick may take from its device in the end, in bytes: all that is not shared then.

    ``quiet``: gluster has noted down in none of these bricks that a file waits to be healed, there or elsewhere. False
    where that was not looked at.
    """

    taken: tuple[int, ...]
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Copied:
    """``moment``: by the host's clock, in seconds since the epoch. ``taken``: what each takes, as ``seal`` tells, if
    they are safe already.
    """

    moment: float
    taken: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class FoundCopy:
    """``taken``: bytes, as ``BrickCopies.seal`` tells; ``moment``: in seconds since the epoch, 0 if unknown."""

    identity: CopyIdentity
    taken: int
    moment: float


@dataclass(frozen=True, slots=True)
class Regrouped:
    """``files``: how many have got their new group so far, directories and links among them."""

    files: int
    done: bool


class VolumeFiles(Protocol):
    """The files of volumes, as clients see them."""

    async def regroup(self, host: Host, volume: Volume, old: Gid) -> Regrouped:
        """All files of the group ``old`` get the volume's; nothing else of them changes. It is done by ``host``.

        Begins, or looks how far it is; returns in some seconds. It goes on meanwhile, and ends by itself if nobody asks
        for a minute or two. May be begun again after any interruption. Raises: CommandFailed if it can't be done, and
        nothing goes on then; and the Runner's errors.
        """

    async def leave(self, host: Host, volume: Volume) -> None:
        """Nothing goes on there any more."""


@runtime_checkable
class BrickCopies(Protocol):
    """Each call is one round trip to one host. All raise the Runner's errors, and Unavailable without the device.

    ``holds``: bricks stay frozen from ``copy`` to ``release``. Where all do there is a moment at which all of them are
    frozen, so their copies are of one moment without a barrier too.
    """

    holds: bool

    async def flush(self, host: Host, bricks: Sequence[PlacedBrick]) -> Flushed:
        """Write out what waits, and look."""

    async def copy(self, host: Host, pairs: Sequence[Pair], hold: Hold) -> Copied:
        """Copy all of them.

        The targets carry their identity before they are there. What an earlier try left of them is replaced.
        Raises: Incoherent if a brick or a target carries another identity (nothing is frozen then), CannotCopy if
        the device can't do it. After any error the bricks may be frozen: call ``release``.
        """

    async def release(self, host: Host, bricks: Sequence[PlacedBrick], hold: Hold) -> bool:
        """Let them be written to. False if the hold was over before, or never began."""

    async def seal(self, host: Host, copies: Sequence[PlacedCopy]) -> tuple[int, ...]:
        """The copies are on the disk; what each takes, in bytes."""

    async def fill(self, host: Host, fillings: Sequence[Filling]) -> None:
        """The storage of each brick, as a copy of the copy, unless it is there. Raises: Incoherent, CannotCopy."""

    async def adopt(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        """Make bricks of storage that is a copy: as ``BrickBackend.create``, with no trace of the volume it was of.

        On the disk when this returns, without ``seal``.
        """

    async def verify_copies(self, host: Host, copies: Sequence[PlacedCopy]) -> None:
        """May these be destroyed? What is gone already may. Raises: Incoherent."""

    async def destroy_copies(self, host: Host, copies: Sequence[PlacedCopy]) -> None:
        """Remove what is there; what is gone already is fine. Raises: Incoherent, before anything was changed."""

    async def find_copies(self, host: Host, devices: Sequence[Device]) -> tuple[FoundCopy, ...]:
        """All copies on these devices, as they say themselves. Half of one, without what it copies, is none."""

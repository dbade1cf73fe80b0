"""What the service needs of the world outside, as protocols.

Adapters implement them; the tests hold every implementation of a port to one contract suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from csi.core.command import Result, Script
from csi.core.errors import NotFound
from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Brick,
    BrickIdentity,
    ClusterId,
    Device,
    Host,
    HostId,
    PlacedBrick,
    PoolSize,
    Record,
    Volume,
)


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, for records."""

    def monotonic(self) -> float:
        """Seconds, for measuring."""

    async def sleep(self, seconds: float) -> None: ...


# --- state ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    """Store the record. Its ``version`` is the one that it was read with; 0: it must not exist yet."""

    record: Record


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the record, which must still have the version that it was read with."""

    record: Record


Change = Put | Remove


class Store(Protocol):
    """All records. One process writes; it keeps the present ``Inventory`` in memory."""

    async def open(self) -> None:
        """Raises: StateUnusable (corrupt, read-only, newer schema, held by another process)."""

    @property
    def inventory(self) -> Inventory:
        """The state after the last commit: an immutable value, so a snapshot costs nothing."""

    async def commit(self, changes: Sequence[Change]) -> Inventory:
        """All or nothing, durable when it returns; versions are counted up.

        Raises: StaleState if a version does not hold, StateUnusable if it cannot be written.
        """

    async def close(self) -> None: ...


class ClaimNotices(Protocol):
    async def tell(self, namespace: str, claim: str, uid: str, reason: str, message: str) -> None:
        """Tell the owner of a PersistentVolumeClaim what he should know. Never raises."""


# --- hosts ------------------------------------------------------------------------------------


class Channel(Protocol):
    """The standard input and output of a long-lived program on a host."""

    async def write(self, data: bytes) -> None:
        """Raises: HostUnreachable."""

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        """Everything up to and including ``end``.

        Raises: HostUnreachable (also when the program ended), CommandTimeout.
        """

    async def close(self) -> None:
        """End the program, also one that hangs."""


class Runner(Protocol):
    """How commands reach a host."""

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        """One round trip. A result for each command that was reached.

        Raises: CommandFailed (the first command with a status not in its ``ok``; the later ones did not run),
        CommandTimeout (the command has been ended), HostUnreachable (the outcome is unknown).
        """

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        """Start a long-lived program. Raises: HostUnreachable."""

    async def close(self) -> None: ...


class Heard(Protocol):
    """When hosts were heard of, by the commands that are sent to them anyway. By the monotonic clock, in seconds."""

    def answered(self, host: HostId) -> float:
        """When it last answered a command; minus infinity if it never did."""

    def heard(self, host: HostId) -> float:
        """The same, but minus infinity if it could not be reached since."""


# --- bricks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BrickState:
    """What a host says of one brick. ``identity`` is None where none could be read."""

    image: bool  # the image or logical volume is there
    mounted: bool
    directory: bool
    identity: BrickIdentity | None
    size: int = 0  # of the image or logical volume, bytes


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a host says of a device that is to be added. ``total`` in bytes, less what the backend keeps for itself."""

    backend: Backend
    total: int


class BrickBackend(Protocol):
    """How bricks are made and ended.

    Each call is one round trip to one host and may be repeated after any interruption. A claimed device carries
    a mark. Every call but ``check`` and ``claim`` first looks for it and raises Unavailable without it: the
    directory of a device that is not mounted looks as if all its bricks were gone.
    """

    async def check(self, host: Host, path: str, *, destroy: bool = False) -> DeviceFacts:
        """``destroy``: a disk may be wiped. Raises: InvalidRequest if it cannot carry bricks, with the reason."""

    async def claim(self, host: Host, device: Device, instance: str, *, destroy: bool = False) -> None:
        """Mark it as ours, once more is fine. Raises: InUse if another's mark, or another device's, is on it."""

    async def create(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        """Make what is not there yet: storage, file system, mount, directory, identity.

        Raises: Incoherent if something of the same name carries another identity, and the Runner's errors.
        """

    async def mount_at_boot(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        """See to it that the host mounts them after a reboot too, and clear away what earlier tries left of them.

        A call of its own, since gluster can do without it: it takes place while ``volume create`` waits for peers.
        """

    async def grow(self, host: Host, bricks: Sequence[PlacedBrick], were: Sequence[PlacedBrick] = ()) -> None:
        """Each brick's storage and its file system have ``brick.size`` bytes or more, while it is in use.

        One that is that large already is fine. Afterwards the bricks carry the identities that are given here; after a
        power cut one may carry its old one. ``were``: the bricks as they are said to be, which spares a look at them.
        Raises: Incoherent if a brick carries another's identity, Unavailable if one is not mounted.
        """

    async def verify(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        """May these be destroyed? What is gone already may.

        Raises: Incoherent if a brick carries another identity, or storage of its name carries none.
        """

    async def inspect(self, host: Host, bricks: Sequence[PlacedBrick]) -> tuple[BrickState, ...]: ...

    async def destroy(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        """Remove what is there; what is gone already is fine.

        Raises: Incoherent, before anything was changed, if a brick carries another identity.
        """

    async def find(self, host: Host, devices: Sequence[Device]) -> tuple[BrickIdentity, ...]:
        """The identities of all bricks on these devices, mounted or not."""


@runtime_checkable
class GivesBack(Protocol):
    """A backend whose devices are blank again when they are no longer needed."""

    async def give_back(self, host: Host, device: Device) -> None:
        """Take our mark and our structures off an empty device; one that is given back already, or lost, is fine.

        Raises: Unavailable while something is on it, or if it carries another's mark.
        """


@runtime_checkable
class PoolExtender(Protocol):
    """A backend whose bricks lie in thin pools."""

    async def extend_pools(self, host: Host, bricks: Sequence[PlacedBrick], wanted: Sequence[PoolSize]) -> None:
        """The pool of each brick has what is wanted for it, or more; one that has is fine.

        Afterwards the bricks carry the identities that are given here.
        Raises: Incoherent if a brick carries another's identity, Unavailable without room or if one is not mounted.
        """


# --- gluster ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pool:
    """The hosts of a cluster in the order in which they are asked: the first that answers acts, the others stand in."""

    hosts: tuple[Host, ...]

    @classmethod
    def of(cls, inventory: Inventory, cluster: ClusterId) -> Pool:
        """Raises: NotFound for a cluster that has no hosts."""
        hosts = tuple(inventory.hosts[host] for host in inventory.hosts_of.get(cluster, ()))
        if not hosts:
            raise NotFound("cluster", cluster)
        return cls(hosts)


@dataclass(frozen=True, slots=True)
class GlusterVolume:
    """What glusterd says of a volume. ``bricks`` are (storage address, path) in gluster's order."""

    name: str
    uuid: str
    started: bool
    bricks: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    uuid: str
    hostnames: tuple[str, ...]
    connected: bool
    in_cluster: bool  # glusterd's state "Peer in Cluster"


class Gluster(Protocol):
    """The verbs of the gluster command line.

    All raise GlusterFailed (refused, with glusterd's code), Busy (still locked by others after all retries),
    Unavailable (a peer that the command needs is down) and HostUnreachable (no host of the pool answers).
    The outcome of a mutation that raised anything but GlusterFailed is unknown.
    """

    async def peers(self, host: Host) -> tuple[Peer, ...]:
        """The other peers as this host sees them."""

    async def probe(self, host: Host, address: str) -> None:
        """Bring ``address`` into the host's pool and wait until it is "in Cluster". A known peer is fine."""

    async def info(self, pool: Pool, name: str) -> GlusterVolume | None:
        """None if glusterd says that there is no such volume."""

    async def volumes(self, pool: Pool) -> tuple[GlusterVolume, ...]: ...

    async def create(self, pool: Pool, volume: Volume, hosts: Sequence[Host]) -> None:
        """``hosts[i]`` carries ``volume.bricks[i]``. Never with ``force``.

        Brick directories that a half-made create marked are cleaned if no such volume exists.
        """

    async def set_options(self, pool: Pool, name: str, options: Sequence[tuple[str, str]]) -> None:
        """All of them in one call."""

    async def profile(self, pool: Pool, name: str) -> tuple[tuple[str, str], ...]:
        """The options of a group that GlusterFS brings along. Raises: InvalidRequest if the hosts have none such."""

    async def add_bricks(self, pool: Pool, volume: Volume, new: Sequence[tuple[Host, Brick]]) -> None:
        """The ``new`` ones, of ``volume`` as it will be, become bricks of the Gluster volume. Never with ``force``.

        Those that are in it already are fine. Brick directories that a half-made addition marked are cleaned.
        """

    async def rebalance(self, pool: Pool, name: str) -> None:
        """Spread the files over all bricks; returns when that has begun. One that is at it, or has one set, is fine."""

    async def rebalanced(self, pool: Pool, name: str) -> bool:
        """Whether the files have been spread. What has stopped half-way is begun again."""

    async def unhealed(self, pool: Pool, name: str) -> int | None:
        """Entries that still have to be healed; None if that can't be told now, or there is no such volume."""

    async def heal(self, pool: Pool, name: str) -> None:
        """Let the self-heal daemons look for work now: by themselves they do every ten minutes."""

    async def start(self, pool: Pool, name: str, bricks: Sequence[tuple[str, str]]) -> None:
        """Returns when every one of ``bricks`` (storage address, path) is online. A started volume is fine.

        Raises: Unavailable naming the bricks that did not come up in time.
        """

    async def offline_bricks(self, pool: Pool, name: str) -> tuple[str, ...] | None:
        """The bricks ("ADDRESS:PATH") that are not online; None if there is no such volume."""

    async def remove(self, pool: Pool, name: str, hosts: Sequence[Host]) -> None:
        """End the volume's own brick processes on ``hosts``, stop it, delete it. A volume that is gone is fine."""

    async def unfit(self, pool: Pool, volume: Volume, hosts: Sequence[Host]) -> str:
        """Why copies of its bricks would make no sound volume now: one is down, or files are being moved, or the like.

        Empty if they would, but for files that wait to be healed: ``waits_for_heal`` tells of those.
        """

    async def waits_for_heal(self, pool: Pool, volume: Volume) -> str:
        """Why copies would make no sound volume, if that is for files to be healed. They get some time for it."""

    async def hold(self, pool: Pool, names: Sequence[str], bound: float) -> None:
        """The barrier: until ``unhold`` nobody is told that his writes are safe, of none of these volumes.

        A host sees to it that it ends in ``bound`` seconds whatever becomes of us. After any error it may be on.
        """

    async def unhold(self, pool: Pool, names: Sequence[str]) -> bool:
        """The barriers are off. False if one was off before, or never on. A volume that is gone is fine."""

    async def close(self) -> None: ...

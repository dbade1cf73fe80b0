"""The records that are stored, and the values that they are made of.

Everything here is frozen. Sizes are bytes. Records carry ``version``: 0 means "not stored yet", the
store counts it up at each commit and refuses a commit that was made on another version.
Nothing derived is kept: free space, GIDs in use and volume counts come from ``core/inventory.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

ClusterId = NewType("ClusterId", str)
HostId = NewType("HostId", str)
DeviceId = NewType("DeviceId", str)
VolumeId = NewType("VolumeId", str)
BrickId = NewType("BrickId", str)
OperationId = NewType("OperationId", str)
SnapshotId = NewType("SnapshotId", str)
Gid = NewType("Gid", int)


class Availability(StrEnum):
    """Whether new bricks may go there (Heketi's three states of a node or device)."""

    ONLINE = "online"
    OFFLINE = "offline"
    FAILED = "failed"


class Backend(StrEnum):
    """How bricks are made on a device."""

    FILE = "file"
    LVM = "lvm"


class BrickRole(StrEnum):
    DATA = "data"
    ARBITER = "arbiter"


class ZoneChecking(StrEnum):
    """``STRICT``: the bricks of a set lie in distinct zones. ``NONE``: in as many zones as can be had."""

    NONE = "none"
    STRICT = "strict"


class Expansion(StrEnum):
    """How volumes may get larger. ``ADD_SETS``: by further sets of bricks, where their own bricks can't grow."""

    IN_PLACE = "inPlace"
    ADD_SETS = "addSets"


class RestoreGid(StrEnum):
    """The group of a volume that begins as a copy. ``NEW``: one of its own, which its files get too."""

    SOURCE = "source"
    NEW = "new"


class Protection(StrEnum):
    NONE = "none"
    REPLICATE = "replicate"
    DISPERSE = "disperse"


@dataclass(frozen=True, slots=True)
class Durability:
    """How a set of bricks protects data.

    ``data`` and ``redundancy`` are counts of bricks: replicate 3 is (1, 2), disperse 4+2 is (4, 2),
    none is (1, 0). ``arbiter`` makes the last brick of a replica 3 set a metadata-only one.
    """

    protection: Protection
    data: int = 1
    redundancy: int = 0
    arbiter: bool = False

    @property
    def set_size(self) -> int:
        """Bricks in one set."""
        return self.data + self.redundancy

    def __str__(self) -> str:
        match self.protection:
            case Protection.NONE:
                return "none"
            case Protection.REPLICATE:
                return f"replicate:{self.set_size}" + (" arbiter" if self.arbiter else "")
            case Protection.DISPERSE:
                return f"disperse:{self.data}:{self.redundancy}"


@dataclass(frozen=True, slots=True)
class TagRule:
    """``key=value`` or ``key!=value``, tested on a host's tags overridden by the device's; a missing tag is ''."""

    key: str
    value: str
    equal: bool = True

    def admits(self, tags: Mapping[str, str]) -> bool:
        return (tags.get(self.key, "") == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """What a StorageClass asks for, decoded and checked (``core/params.py``)."""

    durability: Durability = Durability(Protection.REPLICATE, 1, 2)
    gid_min: Gid = Gid(2000)
    gid_max: Gid = Gid(2147483647)
    options: tuple[tuple[str, str], ...] = ()
    name_prefix: str = ""
    snap_factor: float = 1.0
    cluster_ids: tuple[ClusterId, ...] = ()  # empty: any
    zone_checking: ZoneChecking = ZoneChecking.NONE
    device_tag: TagRule | None = None
    average_file_size: int = 64 * 1024  # bytes; sizes the arbiter bricks
    root_mode: int = 0o2770
    ping_timeout: int = 8  # seconds
    zones: tuple[int, ...] = ()  # where bricks may lie, as Kubernetes asked; empty: anywhere
    expansion: Expansion = Expansion.IN_PLACE
    profile: str = ""  # a group of options that GlusterFS brings along; ``options`` are set over it
    restore_gid: RestoreGid = RestoreGid.SOURCE
    changed: int = 0  # how often what can be changed was changed since the volume was made


@dataclass(frozen=True, slots=True)
class Cluster:
    """A trusted storage pool of glusterd peers."""

    id: ClusterId
    version: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that runs glusterd. ``manage`` is where commands go, ``storage`` what bricks are named by."""

    id: HostId
    cluster_id: ClusterId
    manage: str
    storage: str
    zone: int
    state: Availability = Availability.ONLINE
    tags: Mapping[str, str] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A disk, or a directory, that bricks are made on. ``total`` is what bricks may use of it, in bytes."""

    id: DeviceId
    host_id: HostId
    path: str
    backend: Backend
    total: int
    state: Availability = Availability.ONLINE
    tags: Mapping[str, str] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class Brick:
    """One brick of a volume.

    ``set`` counts from 0; ``index`` is the place in the set. ``size`` is the size of its file system;
    ``footprint`` what it takes from its device. ``path`` is the brick directory that gluster is given.
    """

    id: BrickId
    set: int
    index: int
    host_id: HostId
    device_id: DeviceId
    size: int
    footprint: int
    path: str
    role: BrickRole = BrickRole.DATA


class SourceKind(StrEnum):
    SNAPSHOT = "snapshot"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Source:
    """What a volume began as a copy of. It needs it no longer: ``id`` may be of something that is gone."""

    kind: SourceKind
    id: str


class VolumeState(StrEnum):
    READY = "ready"
    DELETING = "deleting"  # hidden from callers at once, finished by its operation


@dataclass(frozen=True, slots=True)
class Volume:
    """One CSI volume = one Gluster volume. ``bricks`` in gluster's order, set by set."""

    id: VolumeId
    name: str  # the CSI name
    gluster_name: str
    cluster_id: ClusterId
    size: int
    spec: VolumeSpec
    bricks: tuple[Brick, ...]
    gid: Gid  # that of its source, if it has one and the class does not say otherwise
    state: VolumeState = VolumeState.READY
    source: Source | None = None
    regroup_from: Gid | None = (
        None  # the group that files may still have; until none has it nobody is told of the volume
    )
    version: int = 0

    @property
    def set_count(self) -> int:
        return len(self.bricks) // self.spec.durability.set_size


class OperationKind(StrEnum):
    CREATE = "create"
    DELETE = "delete"
    EXPAND = "expand"
    MODIFY = "modify"
    EXTEND = "extend"  # of the thin pools of its bricks
    REGROUP = "regroup"  # the files of a copy get its own group
    # What a change left to do for gluster: its end is waited for.
    HEAL = "heal"
    REBALANCE = "rebalance"


class Direction(StrEnum):
    """``FORWARD``: the plan is being applied. ``BACK``: what was applied is being undone."""

    FORWARD = "forward"
    BACK = "back"


class Step(StrEnum):
    """The words of a plan. What each does to the hosts is told in ``service/steps.py``; stored, so never renamed."""

    MAKE_BRICKS = "make-bricks"
    CREATE_VOLUME = "create-volume"
    SET_OPTIONS = "set-options"
    START_VOLUME = "start-volume"
    COPY_VOLUME = "copy-volume"
    FILL_FROM_SNAPSHOT = "fill-from-snapshot"
    MAKE_FROM_COPIES = "make-from-copies"
    REMOVE_VOLUME = "remove-volume"
    DESTROY_BRICKS = "destroy-bricks"
    GROW_BRICKS = "grow-bricks"
    ADD_BRICKS = "add-bricks"
    REGROUP_FILES = "regroup-files"
    HEAL = "heal"
    REBALANCE = "rebalance"
    EXTEND_POOLS = "extend-pools"


@dataclass(frozen=True, slots=True)
class PoolSize:
    """What the thin pool that a brick is in shall have at least, in bytes."""

    brick: BrickId
    data: int
    metadata: int


@dataclass(frozen=True, slots=True)
class Operation:
    """An entry of the journal: what is to be done to which volume, written before anything is done."""

    id: OperationId
    kind: OperationKind
    volume: Volume  # as it will be, or was (delete)
    steps: tuple[Step, ...]
    direction: Direction = Direction.FORWARD
    error: str = ""  # why it turned back, or why it waits
    attempts: int = 0
    started: float = 0.0  # seconds since the epoch
    term: int = 0  # of the controller that began it, where several stand by; 0 where there is one
    before: Volume | None = None  # as it was when it began to be changed (expand); deleted in the middle of that
    pools: tuple[PoolSize, ...] = ()  # extend
    version: int = 0


@dataclass(frozen=True, slots=True)
class RestingGid:
    """A GID whose volume is gone and that is not given out again before ``until`` (seconds since the epoch)."""

    gid: Gid
    until: float
    version: int = 0

    @property
    def id(self) -> str:
        return f"{self.gid:032x}"


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of one brick, on the brick's own device. ``size`` is that of its file system.

    ``footprint`` is what it takes from the device when nothing of it is shared with its brick any more.
    """

    id: BrickId
    set: int
    index: int
    host_id: HostId
    device_id: DeviceId
    size: int
    footprint: int
    role: BrickRole = BrickRole.DATA


class SnapshotState(StrEnum):
    """``TAKING`` and ``DELETING`` are lines of the journal: what is not carried through is undone, or finished."""

    TAKING = "taking"
    READY = "ready"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A volume as it was at one moment: a copy of each of its bricks, which outlive it. It keeps its GID."""

    id: SnapshotId
    name: str  # the CSI name; in a group: the group's and the volume's
    volume_id: VolumeId
    volume_name: str
    cluster_id: ClusterId
    size: int
    spec: VolumeSpec
    gid: Gid
    copies: tuple[Copy, ...]  # in gluster's order, set by set
    created: float = 0.0  # by the clock of a host, in seconds since the epoch
    group_id: str = ""
    group_name: str = ""
    state: SnapshotState = SnapshotState.TAKING
    error: str = ""  # why it waits
    attempts: int = 0
    started: float = 0.0  # seconds since the epoch
    version: int = 0


Record = Cluster | Host | Device | Volume | Snapshot | Operation | RestingGid


@dataclass(frozen=True, slots=True)
class BrickIdentity:
    """Who a brick is; written as JSON beside the brick directory, on the brick's own file system.

    It is all that is needed to find a volume again without any state, and the evidence that is asked
    for before anything is destroyed. ``schema`` is the version of this format.
    """

    instance: str  # which installation of this driver
    volume_id: VolumeId
    volume_name: str
    gluster_name: str
    cluster_id: ClusterId
    volume_size: int
    spec: VolumeSpec
    gid: Gid
    brick: Brick
    schema: int = 1
    term: int = 0  # of the controller that made the brick, where several stand by
    source: Source | None = None  # of the volume
    regroup_from: Gid | None = None  # of the volume

    def owner(self) -> tuple[str, VolumeId, str, BrickId, int, int]:
        """The part that must agree before the brick is destroyed; sizes may have grown since."""
        return (self.instance, self.volume_id, self.volume_name, self.brick.id, self.brick.set, self.brick.index)


@dataclass(frozen=True, slots=True)
class PlacedBrick:
    """A brick together with the records that it stands on: what a backend needs to make or end it."""

    identity: BrickIdentity
    host: Host
    device: Device
    root_mode: int = 0o2770

    @property
    def brick(self) -> Brick:
        return self.identity.brick

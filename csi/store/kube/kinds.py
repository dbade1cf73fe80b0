"""The kinds of custom resources, one per kind of record: their names, and what ``kubectl get`` shows of them.

All are cluster-scoped: a deleted namespace must not take the state with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from csi.core.model import Cluster, Device, Host, Operation, Record, RestingGid, Snapshot, Volume

GROUP = "csi.gluster.org"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
ROOT = f"/apis/{GROUP}/{VERSION}"

# The version of the documents in ``spec``: counted up when an older program could not read them.
SCHEMA = 1

# On every record of a kind that people write: a deletion waits until the store has let the record go.
FINALIZER = f"{GROUP}/record"


@dataclass(frozen=True, slots=True)
class Column:
    """``wide``: shown by ``kubectl get -o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in CEL that the API server holds the ``spec`` to, and what it says to who breaks it."""

    holds: str
    message: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A number in the ``status``."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Kind:
    record: type[Record]
    table: str  # of the inventory
    name: str
    plural: str
    short: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    # Written by people too, field by field, under names of their choice. All others are one piece, which keeps the
    # server's notes on who set which field, and so every read of them, small.
    by_people: bool = False
    # Fields of the record that a person need not say; a resource that has become a record has them.
    measured: tuple[str, ...] = ()
    # What people say in place of a measured field, and its text. The record has no such field.
    said: dict[str, str] = field(default_factory=dict)
    # What people confirm, true or false, when they ask for a record, and its text. It has no such field either.
    confirmed: dict[str, str] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.plural}"


def _fixed(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(f"self.{name} == oldSelf.{name}", f"{name} cannot be changed") for name in names)


def _fixed_once_recorded(*names: str) -> tuple[Rule, ...]:
    """What a person wrote may be corrected until it has become a record."""
    return tuple(
        Rule(
            f"!has(oldSelf.version) || (has(self.{name}) ? has(oldSelf.{name}) && self.{name} == oldSelf.{name} "
            f": !has(oldSelf.{name}))",
            f"{name} cannot be changed: delete this, and apply another one",
        )
        for name in names
    )


def _said_once(name: str) -> Rule:
    """What was said of a record may be said later, or left out; it may not be said otherwise."""
    return Rule(
        f"!has(oldSelf.version) || !has(oldSelf.{name}) || !has(self.{name}) || self.{name} == oldSelf.{name}",
        f"{name} cannot be changed: delete this, and apply another one",
    )


def _whole(*names: str) -> tuple[Rule, ...]:
    """``version`` makes a record of a resource. It has all its fields then, and stays one."""
    present = " && ".join(f"has(self.{name})" for name in names)
    return (
        Rule(
            f"!has(self.version) || ({present})",
            f"version is counted by the controller, and a record has {', '.join(names)}: leave version out",
        ),
        Rule(
            "!has(oldSelf.version) || has(self.version)",
            "this would take away what the controller has added (version and more): use kubectl apply, patch or edit, "
            "not replace",
        ),
    )


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_STATUS = Column("Status", ".status.phase")
_MESSAGE = Column("Message", ".status.message", wide=True)

# In this order, referred ones before those that refer to them.
KINDS: tuple[Kind, ...] = (
    Kind(
        Cluster,
        "clusters",
        "GlusterCluster",
        "glusterclusters",
        "gcluster",
        (
            Column("Hosts", ".status.hosts", "integer"),
            Column("Devices", ".status.devices", "integer"),
            Column("Free", ".status.freeBytes", "integer"),
            _STATUS,
            _MESSAGE,
            _AGE,
        ),
        rules=(*_whole("id"), *_fixed_once_recorded("id")),
        by_people=True,
        measured=("id",),
        figures=(
            Figure("hosts", "Hosts of the cluster."),
            Figure("devices", "Devices on them."),
            Figure("freeBytes", "Bytes that new bricks may take on devices that are online."),
        ),
    ),
    Kind(
        Host,
        "hosts",
        "GlusterHost",
        "glusterhosts",
        "ghost",
        (
            Column("Host", ".spec.manage"),
            Column("Storage", ".spec.storage"),
            Column("Zone", ".spec.zone", "integer"),
            Column("State", ".spec.state"),
            _STATUS,
            Column("Cluster", ".spec.clusterId", wide=True),
            _MESSAGE,
            _AGE,
        ),
        rules=(
            *_whole("id", "clusterId"),
            *_fixed_once_recorded("id", "clusterId", "manage", "storage"),
            _said_once("cluster"),
        ),
        by_people=True,
        measured=("id", "cluster_id"),
        said={
            "cluster": "The GlusterCluster that the host is in: its name, or its id. Not needed if there is one only."
        },
        texts={
            "cluster_id": "The id of the cluster.",
            "manage": "Where commands go: a name or an address, with :PORT if it is not the usual one.",
            "storage": "The address that bricks are named by, as glusterd's peers know the host.",
            "zone": "The failure domain of the host.",
            "state": "Whether new bricks may go there.",
            "tags": "What classes can ask for with deviceTag.",
        },
    ),
    Kind(
        Device,
        "devices",
        "GlusterDevice",
        "glusterdevices",
        "gdevice",
        (
            Column("Path", ".spec.path"),
            Column("Backend", ".spec.backend"),
            Column("Bytes", ".spec.total", "integer"),
            Column("Free", ".status.freeBytes", "integer"),
            Column("State", ".spec.state"),
            _STATUS,
            Column("Host", ".spec.host"),
            Column("HostId", ".spec.hostId", wide=True),
            _MESSAGE,
            _AGE,
        ),
        rules=(
            Rule(
                "has(self.host) || has(self.hostId)", "host is missing: the name of the GlusterHost that has the device"
            ),
            *_whole("id", "hostId", "backend", "total"),
            *_fixed_once_recorded("id", "hostId", "path", "backend"),
            _said_once("host"),
        ),
        by_people=True,
        measured=("id", "host_id", "backend", "total"),
        said={"host": "The GlusterHost that has the device: its name, or its id."},
        confirmed={
            "destroyData": "Whether a disk that holds something may be wiped when it is taken up. It is never wiped "
            "otherwise, and one that belongs to a volume group in no case."
        },
        figures=(
            Figure(
                "usedBytes",
                "Bytes that are taken of the device: by what is made or being made, or is in its volume group beside.",
            ),
            Figure("freeBytes", "Bytes that new bricks may take."),
        ),
        texts={
            "host_id": "The id of the host.",
            "path": "The directory, or the disk, that bricks are made on.",
            "backend": "How bricks are made; found out if it is left out.",
            "total": "Bytes that bricks may use of it; measured if it is left out.",
            "state": "Whether new bricks may go there.",
            "tags": "What classes can ask for with deviceTag; over those of the host.",
        },
    ),
    Kind(
        Volume,
        "volumes",
        "GlusterVolume",
        "glustervolumes",
        "gvolume",
        (
            Column("Name", ".spec.name"),
            Column("State", ".spec.state"),
            Column("Bytes", ".spec.size", "integer"),
            Column("Gid", ".spec.gid", "integer"),
            Column("Gluster", ".spec.glusterName", wide=True),
            Column("Cluster", ".spec.clusterId", wide=True),
            _MESSAGE,
            _AGE,
        ),
        rules=(
            *_fixed("name", "glusterName", "clusterId", "gid"),
            Rule("self.size >= oldSelf.size", "a volume does not shrink"),
            Rule(
                "self.bricks.size() % (self.spec.durability.data + self.spec.durability.redundancy) == 0",
                "bricks must make whole sets",
            ),
        ),
        texts={
            "name": "The name that CSI asked for: pvc-UID.",
            "size": "Bytes.",
            "gid": "The group that owns the volume; of no other one, but for copies of it.",
            "state": "A volume that is being deleted is hidden from callers at once.",
        },
    ),
    Kind(
        Snapshot,
        "snapshots",
        "GlusterSnapshot",
        "glustersnapshots",
        "gsnapshot",
        (
            Column("Name", ".spec.name"),
            Column("Volume", ".spec.volumeName"),
            Column("State", ".spec.state"),
            Column("Bytes", ".spec.size", "integer"),
            Column("Group", ".spec.groupName", wide=True),
            Column("Cluster", ".spec.clusterId", wide=True),
            _MESSAGE,
            _AGE,
        ),
        rules=(*_fixed("name", "volumeId", "clusterId", "gid", "size"),),
        texts={
            "name": "The name that CSI asked for: snapshot-UID; of a member of a group: the group's and the volume's.",
            "size": "Bytes of the volume.",
            "gid": "The group that owns the files.",
            "created": "The moment that it shows, by the clock of a host, in seconds since the epoch.",
            "state": "What is being taken or deleted is not shown to callers.",
            "error": "Why it waits.",
        },
    ),
    Kind(
        Operation,
        "operations",
        "GlusterOperation",
        "glusteroperations",
        "goperation",
        (
            Column("Kind", ".spec.kind"),
            Column("Volume", ".spec.volume.name"),
            Column("Direction", ".spec.direction"),
            Column("Attempts", ".spec.attempts", "integer"),
            _STATUS,
            Column("Error", ".spec.error", wide=True),
            _AGE,
        ),
        rules=(
            *_fixed("kind"),
            Rule(
                "self.kind == 'expand' || self.volume == oldSelf.volume",
                "volume cannot be changed, but by a smaller expansion in place of one that is not done",
            ),
            Rule(
                "oldSelf.direction != 'back' || self.direction == 'back'",
                "what is being undone cannot go forward again",
            ),
        ),
        texts={
            "direction": "forward: the plan is being carried out; back: it is being undone.",
            "error": "Why it turned back, or why it waits.",
            "attempts": "How often it was tried again.",
        },
    ),
    Kind(
        RestingGid,
        "resting",
        "GlusterRestingGid",
        "glusterrestinggids",
        "grestinggid",
        (Column("Gid", ".spec.gid", "integer"), Column("Until", ".spec.until", "number"), _AGE),
        rules=_fixed("gid"),
        texts={"until": "Not given to a new volume before then, in seconds since the epoch."},
    ),
)

BY_RECORD: dict[type[Record], Kind] = {kind.record: kind for kind in KINDS}


def kind_of(record: Record) -> Kind:
    return BY_RECORD[type(record)]


def path_of(record: Record) -> str:
    """Of a record whose resource has its id as name: all but those that people named (``names.py``)."""
    return f"{kind_of(record).path}/{record.id}"


def shown(record: Record) -> str:
    """As ``kubectl`` takes it."""
    return f"{kind_of(record).name}/{record.id}"

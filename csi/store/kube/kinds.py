"""The kinds of custom resources, one per kind of record: their names, and what ``kubectl get`` shows of them.

All are cluster-scoped: a deleted namespace must not take the state with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from csi.core.model import Cluster, Device, Host, Operation, Record, RestingGid, Volume

GROUP = "csi.gluster.org"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
ROOT = f"/apis/{GROUP}/{VERSION}"

# The version of the documents in ``spec``: counted up when an older program could not read them.
SCHEMA = 1


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
class Kind:
    record: type[Record]
    table: str  # of the inventory
    name: str
    plural: str
    short: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    # Written by people too, field by field. All others are one piece, which keeps the server's notes on who set
    # which field, and so every read of them, small.
    by_people: bool = False
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.plural}"


def _fixed(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule(f"self.{name} == oldSelf.{name}", f"{name} cannot be changed") for name in names)


_AGE = Column("Age", ".metadata.creationTimestamp", "date")

# In this order, referred ones before those that refer to them.
KINDS: tuple[Kind, ...] = (
    Kind(Cluster, "clusters", "GlusterCluster", "glusterclusters", "gcluster", (_AGE,), by_people=True),
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
            Column("Cluster", ".spec.clusterId", wide=True),
            _AGE,
        ),
        rules=_fixed("manage", "storage"),
        by_people=True,
        texts={
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
            Column("State", ".spec.state"),
            Column("HostId", ".spec.hostId"),
            _AGE,
        ),
        rules=_fixed("hostId", "path", "backend"),
        by_people=True,
        texts={
            "path": "The directory, or the disk, that bricks are made on.",
            "total": "Bytes that bricks may use of it.",
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
            "gid": "The group that owns the volume; of no other volume.",
            "state": "A volume that is being deleted is hidden from callers at once.",
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
            Column("Error", ".spec.error", wide=True),
            _AGE,
        ),
        rules=(
            *_fixed("kind", "volume"),
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
    return f"{kind_of(record).path}/{record.id}"


def shown(record: Record) -> str:
    """As ``kubectl`` takes it."""
    return f"{kind_of(record).name}/{record.id}"

"""The tables of the state file, and how older files become newer ones.

One table per kind of record: the record itself as a JSON document, its id and version, and those fields that
foreign keys need, so that the file refuses what the rules of a commit (``store/guard.py``) should have refused.

Migrations go forward only. They are functions over plain JSON documents, one step per schema version; the tables
are then made anew as they are today. So nobody ever needs to know the tables of an older version, only its documents.
A new field with a default needs no migration (``core/documents.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Written into the header of the file ("gcsi"): a database of another program is recognised by it.
APPLICATION_ID = 0x67637369

# The documents of each table, decoded to plain JSON.
Documents = dict[str, list[dict[str, Any]]]
Migration = Callable[[Documents], Documents]

_RECORD = "id TEXT PRIMARY KEY, version INTEGER NOT NULL CHECK (version > 0), document BLOB NOT NULL"

# Keys are checked at the end of a transaction, so the order of the changes in a commit does not matter.
_LATER = "DEFERRABLE INITIALLY DEFERRED"

_TABLES = (
    f"CREATE TABLE clusters ({_RECORD}) STRICT",
    f"CREATE TABLE hosts ({_RECORD}, cluster_id TEXT NOT NULL REFERENCES clusters (id) {_LATER}) STRICT",
    f"CREATE TABLE devices ({_RECORD}, host_id TEXT NOT NULL REFERENCES hosts (id) {_LATER}) STRICT",
    f"CREATE TABLE volumes ({_RECORD}, cluster_id TEXT NOT NULL REFERENCES clusters (id) {_LATER}) STRICT",
    f"CREATE TABLE snapshots ({_RECORD}, cluster_id TEXT NOT NULL REFERENCES clusters (id) {_LATER}) STRICT",
    f"CREATE TABLE operations ({_RECORD}) STRICT",
    f"CREATE TABLE resting ({_RECORD}) STRICT",
    # Which devices carry bricks or copies, of volumes, snapshots and open plans. Kept in step with the documents in
    # the same transaction, for the sake of the foreign keys only; nothing is ever read from them.
    *(
        f"CREATE TABLE {owner}_bricks ("
        f" owner_id TEXT NOT NULL REFERENCES {owner}s (id) ON DELETE CASCADE {_LATER},"
        f" brick_id TEXT NOT NULL, device_id TEXT NOT NULL REFERENCES devices (id) {_LATER},"
        " PRIMARY KEY (owner_id, brick_id)) STRICT, WITHOUT ROWID"
        for owner in ("volume", "snapshot", "operation")
    ),
    # Without these, the removal of a referred record would read whole tables to check its keys.
    "CREATE INDEX hosts_by_cluster ON hosts (cluster_id)",
    "CREATE INDEX devices_by_host ON devices (host_id)",
    "CREATE INDEX volumes_by_cluster ON volumes (cluster_id)",
    "CREATE INDEX snapshots_by_cluster ON snapshots (cluster_id)",
    "CREATE INDEX volume_bricks_by_device ON volume_bricks (device_id)",
    "CREATE INDEX snapshot_bricks_by_device ON snapshot_bricks (device_id)",
    "CREATE INDEX operation_bricks_by_device ON operation_bricks (device_id)",
)


@dataclass(frozen=True, slots=True)
class Schema:
    """A version of the state file; ``migrations[n]`` makes documents of version n into those of n + 1."""

    version: int
    tables: tuple[str, ...] = _TABLES
    migrations: Mapping[int, Migration] = field(default_factory=dict)

    def can_migrate(self, version: int) -> bool:
        return all(step in self.migrations for step in range(version, self.version))

    def migrate(self, version: int, documents: Documents) -> Documents:
        """Documents of ``version`` as documents of this version."""
        for step in range(version, self.version):
            documents = self.migrations[step](documents)
        return documents


def _with_snapshots(documents: Documents) -> Documents:
    """Version 2 has a table more, which older files have nothing for."""
    return {**documents, "snapshots": []}


CURRENT = Schema(version=2, migrations={1: _with_snapshots})

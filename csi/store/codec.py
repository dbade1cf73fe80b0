"""Records as rows of the state file, and back: the statements of a commit, as data."""

# ruff: noqa: S608 (the names of tables and columns in these statements are constants of this package)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from csi.core import documents
from csi.core.model import Cluster, Device, Host, Operation, Record, RestingGid, Snapshot, Volume
from csi.store.guard import held_bricks

# In this order, referred ones before those that refer to them.
KINDS: dict[str, type[Record]] = {
    "clusters": Cluster,
    "hosts": Host,
    "devices": Device,
    "volumes": Volume,
    "snapshots": Snapshot,
    "operations": Operation,
    "resting": RestingGid,
}
_TABLES = {kind: table for table, kind in KINDS.items()}

# The tables that say which devices carry a record's bricks.
_BRICK_TABLES: dict[type[Record], str] = {
    Volume: "volume_bricks",
    Snapshot: "snapshot_bricks",
    Operation: "operation_bricks",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """``guarded``: it must change exactly one row, else the file is not what the memory holds it to be."""

    sql: str
    values: tuple[str | int | bytes, ...] = ()
    guarded: bool = False


def put(record: Record, old: Record | None) -> Iterator[Statement]:
    """Store ``record`` in place of ``old``. Raises: ValueError if it has no JSON form."""
    table = _TABLES[type(record)]
    columns: dict[str, str | int | bytes] = {
        "id": record.id,
        "version": record.version,
        "document": documents.encode(record),
        **_references(record),
    }
    if old is None:
        places = ", ".join("?" * len(columns))
        yield Statement(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", tuple(columns.values()))
    else:
        changes = ", ".join(f"{column} = ?" for column in columns)
        yield Statement(
            f"UPDATE {table} SET {changes} WHERE id = ? AND version = ?",
            (*columns.values(), old.id, old.version),
            guarded=True,
        )
    yield from _put_bricks(record, old)


def remove(record: Record) -> Statement:
    """Its brick rows go with it, by the foreign key."""
    table = _TABLES[type(record)]
    return Statement(f"DELETE FROM {table} WHERE id = ? AND version = ?", (record.id, record.version), guarded=True)


def select(table: str) -> Statement:
    """All rows of a table of records, for ``record``."""
    return Statement(f"SELECT id, version, document FROM {table}")


def record(table: str, row_id: str, version: int, document: bytes) -> Record:
    """Raises: ValueError if the document is no such record, or not the one that its row names."""
    decoded = documents.decode(document, KINDS[table])
    if (decoded.id, decoded.version) != (row_id, version):
        raise ValueError(
            f"the row names {row_id!r} at version {version}, its document {decoded.id!r} at version {decoded.version}"
        )
    return decoded


def _put_bricks(record: Record, old: Record | None) -> Iterator[Statement]:
    bricks = [(brick.id, brick.device_id) for brick in held_bricks(record)]
    before = [(brick.id, brick.device_id) for brick in held_bricks(old)] if old is not None else []
    if bricks == before:
        return
    table = _BRICK_TABLES[type(record)]
    if before:
        yield Statement(f"DELETE FROM {table} WHERE owner_id = ?", (record.id,))
    if bricks:
        places = ", ".join(["(?, ?, ?)"] * len(bricks))
        values = tuple(value for brick in bricks for value in (record.id, *brick))
        yield Statement(f"INSERT INTO {table} (owner_id, brick_id, device_id) VALUES {places}", values)


def _references(record: Record) -> dict[str, str]:
    """The columns that foreign keys look at."""
    match record:
        case Host(cluster_id=cluster_id) | Volume(cluster_id=cluster_id) | Snapshot(cluster_id=cluster_id):
            return {"cluster_id": cluster_id}
        case Device(host_id=host_id):
            return {"host_id": host_id}
        case _:
            return {}

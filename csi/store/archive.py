"""A state as a file of JSON lines: to move it from one store to another, and as its backup.

The first line says what the file is and how many records follow, so that half a file is known as such; each further
line is one record with its kind, referred ones before those that refer to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import msgspec

from csi.core import documents
from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Cluster, Device, Host, Operation, Record, RestingGid, Snapshot, Volume

FORMAT = "gluster-csi state"
SCHEMA = 1

_KINDS: dict[str, type[Record]] = {
    "cluster": Cluster,
    "host": Host,
    "device": Device,
    "volume": Volume,
    "snapshot": Snapshot,
    "operation": Operation,
    "resting-gid": RestingGid,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}


class _Head(msgspec.Struct):
    format: str
    schema: int
    records: int


class _Line(msgspec.Struct):
    kind: str
    record: msgspec.Raw


def write(inventory: Inventory) -> Iterator[bytes]:
    """The lines, each with its end."""
    records = list(inventory.records())
    yield msgspec.json.encode(_Head(FORMAT, SCHEMA, len(records))) + b"\n"
    for record in records:
        yield msgspec.json.encode(_Line(_WORDS[type(record)], msgspec.Raw(documents.encode(record)))) + b"\n"


def read(lines: Iterable[bytes], name: str) -> Sequence[Record]:
    """The records, as new ones (version 0). ``name`` of the file, for messages. Raises: StateUnusable."""
    rows = iter(lines)
    head = _head(next(rows, b""), name)
    records: list[Record] = []
    for number, row in enumerate(rows, start=2):
        try:
            line = msgspec.json.decode(row, type=_Line)
            record = documents.decode(bytes(line.record), _KINDS[line.kind])
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise StateUnusable(f"{name}, line {number}: not a record ({error}): take another backup") from error
        records.append(replace(record, version=0))
    if len(records) != head.records:
        raise StateUnusable(
            f"{name} has {len(records)} of the {head.records} records that its first line tells of: take another backup"
        )
    return records


def _head(line: bytes, name: str) -> _Head:
    try:
        head = msgspec.json.decode(line, type=_Head)
    except msgspec.MsgspecError as error:
        raise StateUnusable(f"{name} is not a file of `gluster-csi state export` ({error})") from error
    if head.format != FORMAT:
        raise StateUnusable(f"{name} is not a file of `gluster-csi state export`: it says {head.format!r}")
    if head.schema > SCHEMA:
        raise StateUnusable(f"{name} has schema {head.schema}, this program knows up to {SCHEMA}: use a newer release")
    return head

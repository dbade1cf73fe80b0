"""Records as custom resources, and back.

``spec`` is the record's document with its fields in the API's spelling (``clusterId``), those without a value left out,
plus ``schema``, the version of this format. The name of a resource is the id of its record. Reading is as strict and as
lenient as for every other document of ours (``core/documents.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from csi.core.model import Record
from csi.store.kube.kinds import API_VERSION, SCHEMA, Kind, kind_of

Document = dict[str, Any]


class NewerSchema(ValueError):
    """The resource was written by a newer program."""


class Metadata(msgspec.Struct):
    name: str
    resourceVersion: str = ""  # noqa: N815 - here and below the name is the API's
    uid: str = ""


class Resource(msgspec.Struct):
    """What is read of a resource. ``spec`` is decoded only when it is asked for."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")

    @property
    def revision(self) -> int:
        """The resource version as a number; the API server promises that they can be compared."""
        return int(self.metadata.resourceVersion or 0)


class ListMetadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct):
    metadata: ListMetadata
    items: list[Resource] = []


class Event(msgspec.Struct):
    """Of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


class Trouble(msgspec.Struct):
    """The object of an ERROR event."""

    code: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Shape:
    """The fields of a dataclass: their name in the API, and the shape of the dataclass in them, if any."""

    by_field: dict[str, tuple[str, _Shape | None]]
    by_name: dict[str, tuple[str, _Shape | None]]


def spelled(field: str) -> str:
    """A field's name in the API."""
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def spec(record: Record) -> Document:
    """Raises: ValueError if the record has no JSON form."""
    try:
        plain = msgspec.to_builtins(record, enc_hook=_plain)
    except (msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"{type(record).__name__.lower()} {record.id} cannot be written as JSON: {error}") from error
    return {"schema": SCHEMA, **_to_api(plain, _shape(type(record)))}


def resource(record: Record) -> Document:
    """The whole resource, as it is made."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind_of(record).name,
        "metadata": {"name": record.id},
        "spec": spec(record),
    }


def record(kind: Kind, found: Resource, known: Record | None = None) -> Record | None:
    """The record in a resource; None for one that a person wrote and that is not recorded yet (it has no version).

    ``known``: the same before somebody edited it, perhaps leaving out what people need not say.

    Raises: ValueError if it is no such record, or not the one that its name tells; NewerSchema.
    """
    plain = msgspec.json.decode(found.spec)
    if known is not None:
        plain = {"id": known.id, "version": known.version, **plain}
    if "version" not in plain:
        return None
    if plain.get("schema", SCHEMA) > SCHEMA:
        raise NewerSchema(f"its schema is {plain['schema']}, this program knows up to {SCHEMA}")
    try:
        decoded: Record = msgspec.convert(_from_api(plain, _shape(kind.record)), kind.record)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a valid {kind.name}: {error}") from error
    if decoded.id != found.metadata.name:
        raise ValueError(f"its name is {found.metadata.name!r}, the id in its spec {decoded.id!r}")
    return decoded


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"a {type(value).__name__} cannot be written as JSON")


def _to_api(plain: Document, shape: _Shape) -> Document:
    spelt: Document = {}
    for name, value in plain.items():
        if value is not None:
            api_name, inner = shape.by_field[name]
            spelt[api_name] = _each(value, inner, _to_api) if inner is not None else value
    return spelt


def _from_api(spelt: Document, shape: _Shape) -> Document:
    plain: Document = {}
    for api_name, value in spelt.items():
        if (known := shape.by_name.get(api_name)) is not None:
            name, inner = known
            plain[name] = _each(value, inner, _from_api) if inner is not None else value
    return plain


def _each(value: Any, shape: _Shape, convert: Any) -> Any:
    if isinstance(value, dict):
        return convert(value, shape)
    if isinstance(value, list | tuple):
        return [convert(item, shape) if isinstance(item, dict) else item for item in value]
    return value


def _shape(kind: type) -> _Shape:
    return _known_shape(cast(Hashable, kind))


@cache
def _known_shape(key: Hashable) -> _Shape:
    kind = cast(type, key)
    hints = get_type_hints(kind)
    names = [(field.name, spelled(field.name), inner_type(hints[field.name])) for field in dataclasses.fields(kind)]
    shapes = {name: _shape(inner) if inner is not None else None for name, _, inner in names}
    return _Shape(
        {name: (api_name, shapes[name]) for name, api_name, _ in names},
        {api_name: (name, shapes[name]) for name, api_name, _ in names},
    )


def inner_type(hint: Any) -> type | None:
    """The dataclass in ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if dataclasses.is_dataclass(hint):
        return hint if isinstance(hint, type) else None
    if get_origin(hint) in (UnionType, Union, tuple):
        for part in get_args(hint):
            if part is not NoneType and part is not Ellipsis and (found := inner_type(part)) is not None:
                return found
    return None

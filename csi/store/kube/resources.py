"""Records as custom resources, and back.

``spec`` is the record's document with its fields in the API's spelling (``clusterId``), those without a value left out,
plus ``schema``, the version of this format. The name of a resource is the id of its record, but for those that people
named (``names.py``). Reading is as strict and as lenient as for every other document of ours (``core/documents.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from types import GenericAlias, NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from csi.core.model import Record
from csi.store.kube.kinds import API_VERSION, FINALIZER, SCHEMA, Kind, kind_of

Document = dict[str, Any]


class NewerSchema(ValueError):
    """The resource was written by a newer program."""


class Metadata(msgspec.Struct):
    name: str
    resourceVersion: str = ""  # noqa: N815 - here and below the name is the API's
    uid: str = ""
    generation: int = 0  # of what was asked for: status, labels and finalizers do not count, a deletion does
    creationTimestamp: str = ""  # noqa: N815
    deletionTimestamp: str = ""  # noqa: N815
    finalizers: list[str] = []


class Resource(msgspec.Struct):
    """What is read of a resource. ``spec`` is decoded only when it is asked for."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")

    @property
    def revision(self) -> int:
        """The resource version as a number; the API server promises that they can be compared."""
        return int(self.metadata.resourceVersion or 0)

    @property
    def is_let_go(self) -> bool:
        """It is being deleted, and the store has let go of it; others may not have yet."""
        return bool(self.metadata.deletionTimestamp) and FINALIZER not in self.metadata.finalizers


class ListMetadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct):
    metadata: ListMetadata
    items: list[Resource] = []


class _Head(msgspec.Struct):
    """What is looked at first. ``version`` 0: none is given."""

    version: int = 0
    schema: int = SCHEMA


_HEADS = msgspec.json.Decoder(_Head)

# The fields of a dataclass: their name in the API, and the fields of the dataclass in them, if there is one.
_Shape = dict[str, tuple[str, "_Shape | None"]]


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


def resource(record: Record, name: str = "") -> Document:
    """The whole resource, as it is made."""
    kind = kind_of(record)
    held = {"finalizers": [FINALIZER]} if kind.by_people else {}
    return {
        "apiVersion": API_VERSION,
        "kind": kind.name,
        "metadata": {"name": name or record.id, **held},
        "spec": spec(record),
    }


def record(kind: Kind, found: Resource, known: Record | None = None) -> Record | None:
    """The record in a resource; None for one that a person wrote and that is not recorded yet (it has no version),
    and for one that was let go.

    ``known``: the same before somebody edited it, perhaps leaving out what people need not say.

    Raises: ValueError if it is no such record, or not the one that its name tells; NewerSchema.
    """
    if kind.by_people and found.is_let_go:
        return None
    document: bytes = found.spec
    try:
        if known is not None:
            told = msgspec.json.decode(document, type=dict[str, Any])
            document = msgspec.json.encode({"id": known.id, "version": known.version, **told})
        head = _HEADS.decode(document)
        if not head.version:
            return None
        if head.schema > SCHEMA:
            raise NewerSchema(f"its schema is {head.schema}, this program knows up to {SCHEMA}")
        spelt = _decoder(cast(Hashable, kind.record)).decode(document)
        decoded: Record = msgspec.convert(spelt, kind.record, from_attributes=True)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a valid {kind.name}: {error}") from error
    if decoded.id != found.metadata.name and not kind.by_people:
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
            api_name, inner = shape[name]
            spelt[api_name] = _each(value, inner, _to_api) if inner is not None else value
    return spelt


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
    inner = {field.name: inner_type(hints[field.name]) for field in dataclasses.fields(kind)}
    return {name: (spelled(name), _shape(found) if found is not None else None) for name, found in inner.items()}


def inner_type(hint: Any) -> type | None:
    """The dataclass in ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if dataclasses.is_dataclass(hint):
        return hint if isinstance(hint, type) else None
    if get_origin(hint) in (UnionType, Union, tuple):
        for part in get_args(hint):
            if part is not NoneType and part is not Ellipsis and (found := inner_type(part)) is not None:
                return found
    return None


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_mirror(kind))


@cache
def _mirror(key: Hashable) -> type[msgspec.Struct]:
    """A dataclass's fields by their names in the API: read at a tenth of what renaming them in Python would cost."""
    kind = cast(type, key)
    hints = get_type_hints(kind)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        hint = _mirrored(hints[field.name])
        if field.default is not dataclasses.MISSING:
            given: Any = msgspec.field(name=spelled(field.name), default_factory=_giving(field.default))
        elif field.default_factory is not dataclasses.MISSING:
            given = msgspec.field(name=spelled(field.name), default_factory=field.default_factory)
        else:
            given = msgspec.field(name=spelled(field.name))
        fields.append((field.name, hint, given))
    return msgspec.defstruct(f"Spelt{kind.__name__}", fields, kw_only=True)


def _giving(value: object) -> Callable[[], object]:
    return lambda: value


def _mirrored(hint: Any) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _mirror(cast(Hashable, hint))
    match get_origin(hint), get_args(hint):
        case (origin, arguments) if origin in (UnionType, Union):
            return Union[tuple(_mirrored(argument) for argument in arguments)]  # noqa: UP007 - made at run time
        case (origin, (item, end)) if origin is tuple and end is Ellipsis:
            return GenericAlias(tuple, (_mirrored(item), Ellipsis))
    return hint

"""The custom resource definitions, made from the record types: structural schemas, rules, columns.

``tools/crds.py`` writes them to ``deploy/crds``; a test holds the files equal to what is made here.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from enum import StrEnum
from types import NoneType
from typing import Any, NewType, get_args, get_origin, get_type_hints

from csi.store.kube.kinds import GROUP, KINDS, VERSION, Kind
from csi.store.kube.resources import Document, spelled

# Ids are digests (``core/naming.py``); the pattern keeps a slip of the hand out.
_IDS = {"ClusterId", "HostId", "DeviceId", "VolumeId", "BrickId", "OperationId", "SnapshotId"}
_ID: Document = {"type": "string", "pattern": "^[0-9a-f]{32}$", "maxLength": 32}

# The rules in CEL need bounds, or the API server holds them to be too dear. The first is ``placement.max_bricks``'s.
_MOST_ITEMS = 1024
_MOST_TAGS = 64
_LONGEST = 65536


def definitions() -> dict[str, Document]:
    """By file name."""
    return {f"{kind.plural}.{GROUP}.yaml": definition(kind) for kind in KINDS}


def definition(kind: Kind) -> Document:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["gluster"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _whole(kind)},
                }
            ],
        },
    }


def _column(column: Any) -> Document:
    shown: Document = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**shown, "priority": 1} if column.wide else shown


def _whole(kind: Kind) -> Document:
    spec, required = _spec(kind), {"required": ["spec"]}
    if kind.by_people and "required" not in spec:
        spec["default"], required = {}, {}  # rules hold, and fields can be added, where a person wrote none
    return {
        "type": "object",
        "description": _told(kind.record),
        **required,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": _status(kind),
        },
    }


def _spec(kind: Kind) -> Document:
    schema = _of_dataclass(kind.record, kind.texts)
    schema["properties"] = {
        "schema": {"type": "integer", "format": "int32", "minimum": 1, "description": "Of this document's format."},
        **schema["properties"],
        **{name: {"type": "string", "maxLength": 253, "description": text} for name, text in kind.said.items()},
        **{name: {"type": "boolean", "description": text} for name, text in kind.confirmed.items()},
    }
    measured = {spelled(name) for name in kind.measured}
    required = [name for name in schema.pop("required", []) if name not in measured]
    if required:
        schema["required"] = required
    if kind.by_people:
        schema["properties"]["id"]["description"] = "Of the record; it follows from what the resource says."
    schema["properties"]["version"] |= {
        "minimum": 1,
        "description": "Counted by the controller at each change. Leave it out of what you apply.",
    }
    rules = [{"rule": rule.holds, "message": rule.message} for rule in kind.rules]
    if rules:
        schema["x-kubernetes-validations"] = rules
    if not kind.by_people:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _of_dataclass(kind: type, texts: Mapping[str, str]) -> Document:
    hints = get_type_hints(kind)
    properties: Document = {}
    required = []
    for field in dataclasses.fields(kind):
        name = spelled(field.name)
        properties[name] = _of_type(hints[field.name])
        if text := texts.get(field.name):
            properties[name] = {**properties[name], "description": text}
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(name)
    schema: Document = {"type": "object", "properties": properties}
    return {**schema, "required": required} if required else schema


def _of_type(hint: Any) -> Document:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, NewType):
        return dict(_ID) if hint.__name__ in _IDS else _of_type(hint.__supertype__)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {"description": _told(hint), **_of_dataclass(hint, {})}
    if origin is tuple:
        return _of_tuple(arguments)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "maxProperties": _MOST_TAGS, "additionalProperties": _text()}
    if NoneType in arguments:
        (present,) = (argument for argument in arguments if argument is not NoneType)
        return _of_type(present)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "string", "enum": [str(word) for word in hint]}
    return {
        str: _text(),
        bool: {"type": "boolean"},
        int: {"type": "integer", "format": "int64", "minimum": 0},
        float: {"type": "number", "minimum": 0},
    }[hint]


def _of_tuple(arguments: tuple[Any, ...]) -> Document:
    if arguments[-1] is Ellipsis:
        return {"type": "array", "maxItems": _MOST_ITEMS, "items": _of_type(arguments[0])}
    count = len(arguments)
    return {"type": "array", "minItems": count, "maxItems": count, "items": _of_type(arguments[0])}


def _text() -> Document:
    return {"type": "string", "maxLength": _LONGEST}


def _told(kind: Any) -> str:
    """The first paragraph of a class's documentation, as one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).replace("``", "")


def _status(kind: Kind) -> Document:
    figures = {
        figure.name: {"type": "integer", "format": "int64", "description": figure.text} for figure in kind.figures
    }
    return {**_STATUS, "properties": {**_STATUS["properties"], **figures}}


_STATUS: Document = {
    "type": "object",
    # Always written whole, by one: the server's notes on who set which field would be as large as the status.
    "x-kubernetes-map-type": "atomic",
    "description": "What the controller tells people. Nothing is ever read from it.",
    "properties": {
        "phase": {"type": "string", "description": "The whole in one word."},
        "message": {"type": "string", "description": "What to know, or to do, in one sentence."},
        "conditions": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                "properties": {
                    "type": {"type": "string", "maxLength": 316},
                    "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                    "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                    "lastTransitionTime": {"type": "string", "format": "date-time"},
                    "reason": {"type": "string", "maxLength": 1024},
                    "message": {"type": "string", "maxLength": 32768},
                },
            },
        },
    },
}

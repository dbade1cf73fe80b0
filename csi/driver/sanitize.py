"""Messages as they may be logged: without what the contract marks as secret, and without what it forgot to mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from csi.api import csi_pb2

STRIPPED = "***stripped***"
_LONGEST = 256  # characters of a single value

# mount_flags may carry credentials, says the specification, and gives them no mark.
_SECRET_FIELDS = {"csi.v1.VolumeCapability.MountVolume.mount_flags"}
# Keys in maps, lower case: kubelet's tokens; the password of Heketi that an old StorageClass still carries.
_SECRET_KEYS = {"csi.storage.k8s.io/serviceaccount.tokens", "restuserkey"}


def loggable(message: Message) -> dict[str, Any]:
    """The fields that are set. Never log a message in any other way: its own text has everything in it."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.full_name in _SECRET_FIELDS or field.GetOptions().Extensions[csi_pb2.csi_secret]:
        return STRIPPED
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map(field.message_type.fields_by_name["value"], value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_single(field, each) for each in value]
    return _single(field, value)


def _map(field: FieldDescriptor, values: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(key): STRIPPED if str(key).lower() in _SECRET_KEYS else _single(field, value)
        for key, value in values.items()
    }


def _single(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return loggable(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[:_LONGEST] + "..."
    return value

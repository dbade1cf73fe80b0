"""Records and identities as JSON documents, and back.

One codec for everything that is written down: the store's rows and the identity files on the bricks.
The output is deterministic (fields as declared, mapping keys sorted), so equal values are equal bytes.

Reading is strict in what is there (types, required fields, words of an enum) and passes over fields that it
does not know: adding a field with a default is no new schema version, and an older program still reads the document.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")


def _plain(value: object) -> object:
    # Tags may be any mapping, ``immutables.Map`` for instance.
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"a {type(value).__name__} cannot be written as JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain, order="deterministic")


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def encode(value: object) -> bytes:
    """Raises: ValueError if the value, or a part of it, has no JSON form."""
    return _ENCODER.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """The document as a ``kind``.

    Raises: ValueError that says what is wrong and where in the document.
    """
    try:
        decoded: T = _decoder(cast(Hashable, kind)).decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a valid {kind.__name__} document: {error}") from error
    return decoded

"""Tags of hosts and devices, and the one rule that a StorageClass may have on them.

Names and values are those that Heketi took; values are kept to characters that mean nothing to a shell, and hyphens
are as good as any other character (Heketi's rules could not name them).
"""

from __future__ import annotations

import re

from csi.core.errors import InvalidRequest
from csi.core.model import TagRule

NAME_ALLOWED = "1 to 32 letters, digits, '_', '.' or '-'"
VALUE_ALLOWED = "at most 64 letters, digits or characters of _ . : / @ + -"
MOST_TAGS = 32

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_VALUE = re.compile(r"[A-Za-z0-9_.:/@+-]{0,64}")


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def is_value(text: str) -> bool:
    return _VALUE.fullmatch(text) is not None


def parse_rule(field: str, text: str) -> TagRule:
    """``key=value`` or ``key!=value``. Raises: InvalidRequest on ``field``."""
    key, separator, value = text.partition("=")
    equal = not key.endswith("!")
    key = key.removesuffix("!")
    if not separator or not is_name(key) or not is_value(value):
        raise InvalidRequest(
            field, text, f"key=value or key!=value, one rule; a key has {NAME_ALLOWED}, a value {VALUE_ALLOWED}"
        )
    return TagRule(key, value, equal)

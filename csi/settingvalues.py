"""What the values of settings can be: sizes, times, paths, addresses to listen on, texts of a pattern."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_SIZE = re.compile(r"([0-9]{1,15})([kMGT]|[KMGT]i|)", re.ASCII)
_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def _bytes(value: object) -> object:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) * _UNITS.get(found[2], 1) if found else value


Bytes = Annotated[int, BeforeValidator(_bytes)]


def text(pattern: str, allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(allowed)
        return value

    return AfterValidator(check)


Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
OptionalPath = Annotated[AbsolutePath | None, BeforeValidator(lambda path: None if path == "" else path)]


def _listening(listen: str) -> str:
    host, colon, port = listen.rpartition(":")
    if listen and not (colon and port.isascii() and port.isdecimal() and int(port) < 65536 and " " not in host):
        raise ValueError("HOST:PORT, :PORT, or nothing")
    return listen


Listen = Annotated[str, AfterValidator(_listening)]

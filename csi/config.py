"""The configuration: a TOML file, overridden by environment variables, checked whole at the start.

A setting ``ssh.port`` is ``port`` in the table ``[ssh]`` of the file, and ``GLUSTER_CSI_SSH__PORT`` in the environment.
``CSI_ENDPOINT``, which every CSI driver is given its socket by, is ``endpoint`` unless ``GLUSTER_CSI_ENDPOINT`` is set.
Every problem is told at once, with the setting, where it was set, and what is allowed.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from csi.core.errors import ConfigInvalid
from csi.settings import Section, Settings

__all__ = ["PREFIX", "Settings", "load", "names", "variable"]

PREFIX = "GLUSTER_CSI_"

# Kubernetes tells pods of services in variables named after them: of a service "gluster-csi" in GLUSTER_CSI_PORT, say.
_SERVICE_LINK = re.compile(r"(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_.*)?)?)")


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The file, overridden by the environment. Raises: ConfigInvalid with every problem."""
    problems: list[str] = []
    plain, origins = _from_file(path, problems)
    _override(plain, origins, environ, problems)
    try:
        settings = Settings.model_validate(plain)
    except ValidationError as error:
        problems += [_problem(dict(found), origins) for found in error.errors(include_url=False)]
        raise ConfigInvalid(problems) from error
    if problems:
        raise ConfigInvalid(problems)
    return settings


def names() -> tuple[str, ...]:
    """Every setting by its full name, as ``ssh.port``."""
    found = []
    for name, entry in Settings.model_fields.items():
        if isinstance(entry.annotation, type) and issubclass(entry.annotation, Section):
            found += [f"{name}.{inner}" for inner in entry.annotation.model_fields]
        else:
            found.append(name)
    return tuple(found)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.replace(".", "__").upper()


def _from_file(path: Path | None, problems: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    if path is None:
        return {}, {}
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ConfigInvalid([f"{path} is not TOML: {error}"]) from error
    known = names()
    origins: dict[str, str] = {}
    for name in _leaves(plain):
        origins[name] = f"in {path}"
        if name not in known:
            problems.append(f"{name} (in {path}) is not a setting{_nearest(name, known)}")
            _drop(plain, name)
    return plain, origins


def _override(plain: dict[str, Any], origins: dict[str, str], environ: Mapping[str, str], problems: list[str]) -> None:
    """The variables of the environment, over what the file says."""
    by_variable = {variable(name): name for name in names()}
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    if "CSI_ENDPOINT" in environ and variable("endpoint") not in given:
        by_variable["CSI_ENDPOINT"], given["CSI_ENDPOINT"] = "endpoint", environ["CSI_ENDPOINT"]
    for key, value in sorted(given.items()):
        name = by_variable.get(key)
        if name is None:
            if "__" in key or not _SERVICE_LINK.fullmatch(key.removeprefix(PREFIX)):
                problems.append(f"{key} (in the environment) is not a setting{_nearest(key, tuple(by_variable))}")
            continue
        section, _, leaf = name.rpartition(".")
        table = plain.setdefault(section, {}) if section else plain
        if isinstance(table, dict):
            table[leaf] = value
            origins[name] = f"from {key}"


def _leaves(plain: Mapping[str, Any]) -> Iterator[str]:
    for name, value in list(plain.items()):
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in list(value))
        else:
            yield name


def _drop(plain: dict[str, Any], name: str) -> None:
    """Take out what has been told of, so that the validation doesn't tell it again."""
    section, _, leaf = name.rpartition(".")
    del (plain[section] if section else plain)[leaf]
    if section and not plain[section] and section not in Settings.model_fields:
        del plain[section]


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else f"; the settings are {', '.join(known)}"


def _problem(found: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    name = ".".join(str(part) for part in found["loc"])
    where = f" ({origins[name]})" if name in origins else ""
    reason = str(found["msg"]).removeprefix("Value error, ")
    return f"{name}{where}: {str(found['input'])[:80]!r} is not accepted: {reason}"

"""The ``volumeOptions`` of a StorageClass: "name value, name value" for ``gluster volume set``.

What an option means is gluster's business, and gluster refuses what it does not know. Here is refused what can't be an
option, what reaches beyond the one volume, and what the driver itself decides for every volume.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from csi.core.errors import InvalidRequest

FIELD = "parameter volumeOptions"

# Full names only: gluster completes short ones, so "quorum-type" would be another spelling that no check here sees.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._:%*+@=/-]{0,254}", re.ASCII)
_LONGEST_NAME = 127

# Their values are lists, so a comma in them does not begin a new option.
_LISTS = frozenset({"auth.allow", "auth.reject", "auth.ssl-allow", "nfs.rpc-auth-allow", "nfs.rpc-auth-reject"})

_POOL = "it holds for the whole pool and not for one volume: set it with 'gluster volume set all' on a host"
_REFUSED = {
    "cluster.brick-multiplex": _POOL,
    "cluster.daemon-log-level": _POOL,
    "cluster.enable-shared-storage": _POOL,
    "cluster.localtime-logging": _POOL,
    "cluster.max-bricks-per-process": _POOL,
    "cluster.max-op-version": _POOL,
    "cluster.op-version": _POOL,
    "cluster.server-quorum-ratio": _POOL,
    "ganesha.enable": _POOL,
    "nfs-ganesha": _POOL,
    "glusterd.vol-count-per-thread": _POOL,
    "config.global-threading": _POOL,
    "storage.owner-gid": "the group is the GID that the driver gives to each volume (gidMin, gidMax)",
    "features.barrier": "the driver uses it to take copies of a volume",
    "nfs.rpc-statd": "it names a program that is run on the hosts",
}
_REFUSED_KINDS = {
    "debug.": "it makes the volume fail on purpose",
    "user.xlator.": "it changes translators that gluster does not check",
    "user.heketi.": "this one of Heketi's has no meaning here",
}

# What Heketi read out of the options, and the parameter that says the same.
_HEKETI = {
    "user.heketi.arbiter": "arbiter",
    "user.heketi.average-file-size": "averageFileSize",
    "user.heketi.zone-checking": "zoneChecking",
    "user.heketi.device-tag-match": "deviceTag",
}
# The rule of a device tag may hold "!", which no option of gluster may.
_HEKETI_VALUE = re.compile(r"[A-Za-z0-9_.:/@+=!-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    """``heketi`` are the options that stand for parameters, by parameter; they are not passed on to gluster."""

    settings: tuple[tuple[str, str], ...]
    heketi: Mapping[str, str]


def parse(text: str) -> Options:
    """Raises: InvalidRequest."""
    settings: dict[str, str] = {}
    heketi: dict[str, str] = {}
    last = ""
    for item in filter(None, (part.strip(" \t\r\n") for part in text.split(","))):
        words = item.split()
        if len(words) == 1 and last in _LISTS and _VALUE.fullmatch(item):
            settings[last] += "," + item
            continue
        if len(words) != 2:
            raise InvalidRequest(FIELD, item, "a list of 'name value' separated by commas, values without blanks")
        last, value = words
        if last in settings or _HEKETI.get(last) in heketi:
            raise InvalidRequest(FIELD, last, "each option once")
        if last in _HEKETI:
            heketi[_HEKETI[last]] = _heketi_value(last, value)
        else:
            check(last, value)
            settings[last] = value
    return Options(tuple(settings.items()), heketi)


def check(name: str, value: str) -> None:
    """Raises: InvalidRequest unless the option may be set on a volume of this driver."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidRequest(
            FIELD, name, "the name of an option of 'gluster volume set': small letters, digits, '.', '-', '_'"
        )
    refused = _REFUSED.get(name.replace("_", "-")) or next(
        (reason for start, reason in _REFUSED_KINDS.items() if name.startswith(start)), ""
    )
    if refused:
        raise InvalidRequest(FIELD, name, refused)
    if "." not in name:
        raise InvalidRequest(FIELD, name, "the full name of an option, as in 'performance.readdir-ahead on'")
    if not _VALUE.fullmatch(value):
        raise InvalidRequest(
            FIELD, f"{name} {value}", "a value of letters, digits and . _ : % * + @ = / - that begins with one of them"
        )


def _heketi_value(name: str, value: str) -> str:
    if not _HEKETI_VALUE.fullmatch(value):
        raise InvalidRequest(FIELD, f"{name} {value}", f"the same as parameter {_HEKETI[name]} takes")
    if name == "user.heketi.average-file-size" and value.isascii() and value.isdigit():
        return f"{value}Ki"  # Heketi counted KiB
    return value

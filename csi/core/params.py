"""The parameters of a StorageClass, decoded into a ``VolumeSpec``.

All names that the in-tree ``kubernetes.io/glusterfs`` provisioner knew are taken, upper or lower case, so that a class
goes on working when its provisioner line is changed. Nothing passes that does not match a pattern of its own: what
comes out holds no character that means anything to a shell, but for the ``*`` and ``=`` of option values.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from csi.core import naming, options, tags
from csi.core.errors import InvalidRequest
from csi.core.model import (
    ClusterId,
    Durability,
    Expansion,
    Gid,
    Protection,
    RestoreGid,
    TagRule,
    VolumeSpec,
    ZoneChecking,
)

# As they are written in the documentation; compared without regard to case.
KNOWN = (
    "arbiter",
    "averageFileSize",
    "clusterId",
    "deviceTag",
    "expansion",
    "gidMax",
    "gidMin",
    "pingTimeout",
    "restoreGid",
    "rootMode",
    "snapFactor",
    "volumeNamePrefix",
    "volumeOptions",
    "volumeType",
    "zoneChecking",
)
# Of the in-tree provisioner: how Heketi was reached, and names of objects that CSI does not need.
UNUSED = (
    "customEpNamePrefix",
    "restAuthEnabled",
    "restURL",
    "restUser",
    "restUserKey",
    "secretName",
    "secretNamespace",
)
_CANONICAL = {name.lower(): name for name in (*KNOWN, *UNUSED)}
_SIDECAR = "csi.storage.k8s.io/"  # read by the provisioner sidecar; some come through

_LARGEST_MAP = 4096  # bytes, the CSI specification's limit for maps

LOWEST_GID = 2000
HIGHEST_GID = 2147483647
_MOST_DATA_BRICKS = 16  # of a dispersed set: gluster's erasure code has no larger matrix
_LONGEST_PING_TIMEOUT = 1013  # seconds, gluster's own limit
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_LEAST_FILE, _LARGEST_FILE = 1 << 10, 1 << 40

_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}", re.ASCII)
_FACTOR = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?", re.ASCII)
_BYTES = re.compile(r"([1-9][0-9]{0,12})([KkMG]i?|)", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}", re.ASCII)
_MODE = re.compile(r"(?:0o?)?([0-7]{3,4})", re.ASCII)
_TRUE = frozenset({"true", "t", "1", "yes", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "off"})


@dataclass(frozen=True, slots=True)
class Parsed:
    """``unused`` names what was accepted but does nothing, as it was written."""

    spec: VolumeSpec
    unused: tuple[str, ...] = ()


def parse(parameters: Mapping[str, str]) -> Parsed:
    """Raises: InvalidRequest naming the parameter, its value and what is allowed."""
    given, unused = _sort(parameters)
    settings: tuple[tuple[str, str], ...] = ()
    if "volumeOptions" in given:
        found = options.parse(given["volumeOptions"])
        settings = found.settings
        for name, value in found.heketi.items():
            if given.setdefault(name, value) != value:
                raise InvalidRequest(
                    f"parameter {name}", given[name], f"volumeOptions says {value!r} for the same: keep one of the two"
                )
    arbiter = "arbiter" in given and boolean("arbiter", given["arbiter"])
    gid_min = _number("gidMin", given.get("gidMin", str(LOWEST_GID)), LOWEST_GID, HIGHEST_GID)
    gid_max = _number("gidMax", given.get("gidMax", str(HIGHEST_GID)), LOWEST_GID, HIGHEST_GID)
    if gid_min > gid_max:
        raise InvalidRequest("parameter gidMin", gid_min, f"a number up to gidMax, which is {gid_max}")
    default = VolumeSpec()
    spec = VolumeSpec(
        durability=durability(given.get("volumeType", "replicate:3"), arbiter=arbiter),
        gid_min=Gid(gid_min),
        gid_max=Gid(gid_max),
        options=settings,
        name_prefix=_name_prefix(given.get("volumeNamePrefix", "")),
        snap_factor=_snap_factor(given.get("snapFactor", "1")),
        cluster_ids=_cluster_ids(given.get("clusterId", "")),
        zone_checking=_zone_checking(given.get("zoneChecking", "none")),
        device_tag=_device_tag(given.get("deviceTag", "")),
        average_file_size=_average_file_size(given["averageFileSize"])
        if "averageFileSize" in given
        else default.average_file_size,
        root_mode=_root_mode(given["rootMode"]) if "rootMode" in given else default.root_mode,
        expansion=_expansion(given["expansion"]) if "expansion" in given else default.expansion,
        restore_gid=_restore_gid(given.get("restoreGid", default.restore_gid)),
        ping_timeout=_number("pingTimeout", given["pingTimeout"], 1, _LONGEST_PING_TIMEOUT)
        if "pingTimeout" in given
        else default.ping_timeout,
    )
    return Parsed(spec, unused)


def _sort(parameters: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The parameters that work by their documented names, and the names of those that do nothing."""
    size = sum(
        len(key.encode(errors="replace")) + len(value.encode(errors="replace")) for key, value in parameters.items()
    )
    if size > _LARGEST_MAP:
        raise InvalidRequest(
            "parameters", f"{size} bytes", f"at most {_LARGEST_MAP} bytes of names and values together"
        )
    given: dict[str, str] = {}
    spelled: dict[str, str] = {}
    unused: list[str] = []
    for key, value in parameters.items():
        if key.lower().startswith(_SIDECAR):
            continue
        name = _CANONICAL.get(key.lower())
        if name is None:
            raise InvalidRequest("parameters", key, _known(key))
        if name in spelled:
            raise InvalidRequest("parameters", key, f"it stands there twice, also as {spelled[name]!r}: keep one")
        spelled[name] = key
        if name in UNUSED:
            unused.append(key)
        else:
            given[name] = value.strip(" \t\r\n")
    return given, tuple(sorted(unused))


def _known(key: str) -> str:
    close = difflib.get_close_matches(key.lower()[:64], _CANONICAL, n=1)
    hint = f"did you mean {_CANONICAL[close[0]]}? " if close else ""
    return f"{hint}The known parameters are {', '.join(KNOWN)}; accepted without effect are {', '.join(UNUSED)}"


def _number(name: str, text: str, least: int, most: int) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise InvalidRequest(f"parameter {name}", text, f"a whole number from {least} to {most}")
    return int(text)


def boolean(name: str, text: str) -> bool:
    """Raises: InvalidRequest."""
    if text.lower() not in _TRUE | _FALSE:
        raise InvalidRequest(f"parameter {name}", text, "true or false")
    return text.lower() in _TRUE


def durability(text: str, *, arbiter: bool) -> Durability:
    """Raises: InvalidRequest."""
    match text.lower().split(":"):
        case ["none"]:
            found = Durability(Protection.NONE)
        case ["replicate"]:
            found = Durability(Protection.REPLICATE, 1, 2, arbiter)
        case ["replicate", "2" | "3" as copies]:
            found = Durability(Protection.REPLICATE, 1, int(copies) - 1, arbiter)
        case ["replicate", "1"]:
            raise InvalidRequest("parameter volumeType", text, "for a single copy say none")
        case ["disperse", data, redundancy]:
            found = Durability(Protection.DISPERSE, *_disperse(text, data, redundancy))
        case _:
            raise InvalidRequest(
                "parameter volumeType", text, "none, replicate, replicate:2, replicate:3 or disperse:DATA:REDUNDANCY"
            )
    if arbiter and not (found.protection is Protection.REPLICATE and found.set_size == 3):
        raise InvalidRequest("parameter arbiter", "true", f"only with volumeType replicate:3, and here it is {text}")
    return found


def _disperse(text: str, data: str, redundancy: str) -> tuple[int, int]:
    if not (_NUMBER.fullmatch(data) and _NUMBER.fullmatch(redundancy)):
        raise InvalidRequest("parameter volumeType", text, "disperse:DATA:REDUNDANCY with two numbers, as disperse:4:2")
    if not 0 < int(redundancy) < int(data) <= _MOST_DATA_BRICKS:
        raise InvalidRequest(
            "parameter volumeType",
            text,
            f"disperse:DATA:REDUNDANCY with at most {_MOST_DATA_BRICKS} DATA bricks, a REDUNDANCY of at least 1, "
            "and fewer REDUNDANCY than DATA bricks",
        )
    return int(data), int(redundancy)


def _name_prefix(text: str) -> str:
    if text and not _PREFIX.fullmatch(text):
        raise InvalidRequest(
            "parameter volumeNamePrefix",
            text,
            "at most 63 letters, digits and '-', not '-' first; '_' divides the prefix from the rest of the name",
        )
    return text


def _snap_factor(text: str) -> float:
    factor = float(text) if _FACTOR.fullmatch(text) else math.nan
    if not 1 <= factor <= 100:
        raise InvalidRequest("parameter snapFactor", text, "a number from 1 to 100, as 1.5")
    return factor


def _cluster_ids(text: str) -> tuple[ClusterId, ...]:
    ids = [part.strip().lower() for part in text.split(",")] if text else []
    for found in ids:
        if not naming.is_id(found):
            raise InvalidRequest("parameter clusterId", text, "ids of clusters, of 32 hex digits, separated by commas")
    return tuple(ClusterId(found) for found in dict.fromkeys(ids))


def _zone_checking(text: str) -> ZoneChecking:
    if text.lower() not in tuple(ZoneChecking):
        raise InvalidRequest("parameter zoneChecking", text, "none or strict")
    return ZoneChecking(text.lower())


def _expansion(text: str) -> Expansion:
    for way in Expansion:
        if text.lower() == way.lower():
            return way
    raise InvalidRequest("parameter expansion", text, "inPlace or addSets")


def _restore_gid(text: str) -> RestoreGid:
    if text.lower() not in tuple(RestoreGid):
        raise InvalidRequest("parameter restoreGid", text, "source or new")
    return RestoreGid(text.lower())


def _device_tag(text: str) -> TagRule | None:
    return tags.parse_rule("parameter deviceTag", text) if text else None


def _average_file_size(text: str) -> int:
    found = _BYTES.fullmatch(text)
    size = int(found[1]) * _UNITS[found[2].lower()] if found else 0
    if not _LEAST_FILE <= size <= _LARGEST_FILE:
        raise InvalidRequest(
            "parameter averageFileSize", text, "a size from 1Ki to 1024Gi: bytes, or with k, M, G, Ki, Mi or Gi"
        )
    return size


def _root_mode(text: str) -> int:
    found = _MODE.fullmatch(text)
    mode = int(found[1], 8) if found else 0
    # Without these the volume's group, which is all that a pod gets, could not write.
    if mode & 0o770 != 0o770 or mode & 0o4000:
        raise InvalidRequest(
            "parameter rootMode",
            text,
            "an octal mode as 2770 that gives owner and group all rights (x77x) and does not set the user id",
        )
    return mode

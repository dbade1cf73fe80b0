"""The topology file: which hosts and devices there are, in the JSON format that Heketi's administrators have.

    {"clusters": [{"nodes": [{"node": {"hostnames": {"manage": ["n1"], "storage": ["10.0.0.1"]}, "zone": 1, "tags": {}},
                              "devices": ["/dev/sdb", {"name": "/dev/sdc", "tags": {"disk": "ssd"}}]}]}]}

A person edits it by hand, so all its problems are told at once, each with its place in the file.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import msgspec

from csi.core import tags
from csi.core.errors import InvalidRequest
from csi.core.model import Backend

_LARGEST_FILE = 16 << 20
_MOST_SHOWN = 20
LAST_ZONE = 65535

_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*"
)
# What a device may be named: an absolute path of characters that need no quoting anywhere (Heketi's own rule).
_DEVICE = re.compile(r"/[A-Za-z0-9_.:/-]{1,254}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

# The two flags of a cluster are Heketi's: every cluster takes file volumes and no block volumes, so they mean nothing.
_CLUSTER_KEYS = frozenset({"nodes", "file", "block"})
_DEVICE_KEYS = frozenset({"name", "tags", "destroydata"})

_NOTHING: Mapping[str, Any] = {}  # told apart by identity


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """``destroydata``: what a block device holds may be wiped, when it is added."""

    path: str
    tags: Mapping[str, str] = field(default_factory=dict)
    destroydata: bool = False


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """``manage`` is where commands go (name or address, perhaps with a port), ``storage`` what bricks are named by."""

    manage: str
    storage: str
    zone: int
    devices: tuple[DeviceEntry, ...]
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterEntry:
    nodes: tuple[NodeEntry, ...]


@dataclass(frozen=True, slots=True)
class TopologyFile:
    clusters: tuple[ClusterEntry, ...]


def parse(data: bytes | str) -> TopologyFile:
    """Raises: InvalidRequest that lists every problem."""
    if len(data) > _LARGEST_FILE:
        raise InvalidRequest("topology", f"{len(data)} bytes", f"at most {_LARGEST_FILE} bytes")
    try:
        plain = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidRequest("topology", _start(data), f"a JSON document; {error}") from error
    reader = _Reader()
    file = reader.file(plain)
    if reader.problems:
        more = len(reader.problems) - _MOST_SHOWN
        shown = [*reader.problems[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise InvalidRequest("topology", f"{len(reader.problems)} problems", "; ".join(shown))
    return file


def dump(plain: Mapping[str, Any]) -> bytes:
    """A document of the format as a file."""
    return msgspec.json.format(msgspec.json.encode(plain), indent=2)


def _start(data: bytes | str) -> str:
    return (data if isinstance(data, str) else data.decode(errors="replace"))[:40]


class _Reader:
    """Collects problems and reads on, so that one look at the file finds all of them."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._manages: dict[str, str] = {}  # where each name was first seen
        self._storages: dict[str, str] = {}

    def file(self, plain: object) -> TopologyFile:
        clusters = self._list(self._object(plain, "topology", {"clusters"}), "clusters", "topology", at_least=1)
        return TopologyFile(tuple(self._cluster(entry, f"clusters[{i}]") for i, entry in enumerate(clusters)))

    def _cluster(self, plain: object, at: str) -> ClusterEntry:
        nodes = self._list(self._object(plain, at, _CLUSTER_KEYS), "nodes", at, at_least=1)
        return ClusterEntry(tuple(self._node(entry, f"{at}.nodes[{i}]") for i, entry in enumerate(nodes)))

    def _node(self, plain: object, at: str) -> NodeEntry:
        entry = self._object(plain, at, {"node", "devices"})
        node = self._object(entry.get("node"), f"{at}.node", {"hostnames", "zone", "tags"}, entry)
        names = self._object(node.get("hostnames"), f"{at}.node.hostnames", {"manage", "storage"}, node)
        return NodeEntry(
            manage=self._name(names, "manage", f"{at}.node.hostnames", is_target, self._manages),
            storage=self._name(names, "storage", f"{at}.node.hostnames", is_host, self._storages),
            zone=self._zone(node, f"{at}.node"),
            tags=self._tags(node, f"{at}.node"),
            devices=tuple(self._devices(self._list(entry, "devices", at), f"{at}.devices")),
        )

    def _zone(self, node: Mapping[str, Any], at: str) -> int:
        found = node.get("zone")
        if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= LAST_ZONE:
            return found
        if node is not _NOTHING:
            self._problem(f"{at}.zone", found, f"a number from 1 to {LAST_ZONE}")
        return 0

    def _devices(self, devices: Sequence[object], at: str) -> Iterator[DeviceEntry]:
        seen: set[str] = set()
        for i, plain in enumerate(devices):
            entry = {"name": plain} if isinstance(plain, str) else self._object(plain, f"{at}[{i}]", _DEVICE_KEYS)
            path = entry.get("name")
            if not isinstance(path, str) or not is_device(path):
                self._problem(
                    f"{at}[{i}]",
                    path,
                    "an absolute path, as /dev/sdb, of letters, digits and _ . : - / (no '..', '//' or last '/')",
                )
            elif path in seen:
                self._problem(f"{at}[{i}]", path, "each device once")
            else:
                seen.add(path)
                destroy = entry.get("destroydata", False)
                if not isinstance(destroy, bool):
                    self._problem(f"{at}[{i}].destroydata", destroy, "true or false")
                yield DeviceEntry(path, self._tags(entry, f"{at}[{i}]"), destroy is True)

    def _name(
        self, names: Mapping[str, Any], key: str, at: str, is_good: Callable[[str], bool], seen: dict[str, str]
    ) -> str:
        """Heketi's format has lists here, and nobody ever had more than one name in them; a plain string is fine."""
        if names is _NOTHING:
            return ""
        found = names.get(key)
        listed = found if isinstance(found, list) else [found]
        if len(listed) != 1 or not isinstance(listed[0], str) or not is_good(listed[0]):
            self._problem(f"{at}.{key}", found, "one host name or IP address")
            return ""
        first = seen.setdefault(listed[0].lower(), at)
        if first != at:
            self._problem(f"{at}.{key}", listed[0], f"each host once, and it stands in {first} too")
        return listed[0]

    def _tags(self, entry: Mapping[str, Any], at: str) -> Mapping[str, str]:
        found = entry.get("tags")
        if found is None:
            return {}
        if not isinstance(found, dict) or len(found) > tags.MOST_TAGS:
            self._problem(f"{at}.tags", found, f"an object of at most {tags.MOST_TAGS} tags")
            return {}
        for name, value in found.items():
            if not tags.is_name(name):
                self._problem(f"{at}.tags", name, f"a name of {tags.NAME_ALLOWED}")
            elif not isinstance(value, str) or not tags.is_value(value):
                self._problem(f"{at}.tags.{name}", value, f"a string of {tags.VALUE_ALLOWED}")
        return found

    def _object(
        self, plain: object, at: str, keys: Set[str], parent: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """``_NOTHING`` if there is none; then its parts are not missed one by one."""
        if parent is _NOTHING:
            return _NOTHING
        if not isinstance(plain, dict):
            self._problem(at, plain, f"an object with {', '.join(sorted(keys))}")
            return _NOTHING
        for key in sorted(plain.keys() - keys):
            self._problem(at, key, f"a key out of {', '.join(sorted(keys))}")
        return plain

    def _list(self, entry: Mapping[str, Any], key: str, at: str, at_least: int = 0) -> Sequence[object]:
        if entry is _NOTHING:
            return []
        found = entry.get(key, [] if not at_least else None)
        if not isinstance(found, list) or len(found) < at_least:
            self._problem(f"{at}.{key}", found, "a list" + (" that is not empty" if at_least else ""))
            return []
        return found

    def _problem(self, at: str, value: object, allowed: str) -> None:
        shown = repr(value) if value is not None else "nothing"
        self.problems.append(f"{at}: {shown[:60]} where there should be {allowed}")


def is_device(path: str) -> bool:
    """What a device may be named."""
    # normpath leaves two leading slashes alone, since POSIX does.
    return _DEVICE.fullmatch(path) is not None and posixpath.normpath(path) == path and not path.startswith("//")


def backend_of(path: str) -> Backend:
    """How bricks are made on the device of this name: what lies below /dev is a disk."""
    return Backend.LVM if path.startswith("/dev/") else Backend.FILE


def is_host(text: str) -> bool:
    """A host name, or an address of either version."""
    if text.rpartition(".")[2].isdigit():  # then it can only be meant as an address
        return _is_address(text, ipaddress.IPv4Address)
    return _HOST.fullmatch(text) is not None or _is_v6(text)


def is_target(text: str) -> bool:
    """A host, perhaps with a port: ``name:port``, ``[v6]:port``."""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        return _is_v6(address) and (not rest or (rest.startswith(":") and _is_port(rest[1:])))
    name, colon, port = text.partition(":")
    return is_host(text) or bool(colon and ":" not in port and is_host(name) and _is_port(port))


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text) < 65536


def _is_v6(text: str) -> bool:
    return "%" not in text and _is_address(text, ipaddress.IPv6Address)


def _is_address(text: str, kind: Callable[[str], object]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True

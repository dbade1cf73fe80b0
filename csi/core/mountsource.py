"""What the source of a mount may be made of, and in which order a node asks the servers.

Names from outside reach the arguments of the GlusterFS client, so each one is held to a strict pattern.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable

MOST_SERVERS = 64
LONGEST_PING_TIMEOUT = 1013  # seconds; gluster's own limit

_VOLUME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,254}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", re.ASCII)


def is_volume(name: str) -> bool:
    """Whether it can be the name of a Gluster volume."""
    return _VOLUME.fullmatch(name) is not None


def is_server(text: str) -> bool:
    """A host name or an address."""
    if ":" in text:
        try:
            # A zone ("%eth0") means something on one machine only.
            return ipaddress.IPv6Address(text).scope_id is None
        except ValueError:
            return False
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def in_order_of(node_id: str, servers: Iterable[str]) -> tuple[str, ...]:
    """The servers in the node's own order: always the same one, and the nodes spread over them evenly.

    Each node ranks them by a hash, so the nodes of a server that fails spread over all the others.
    """

    def rank(server: str) -> bytes:
        return hashlib.sha256(f"{node_id}\x00{server}".encode()).digest()

    return tuple(sorted(servers, key=rank))


def preferred(present: Iterable[str], fallback: Iterable[str]) -> tuple[str, ...]:
    """The present servers first, then those that only an older list names; each once, ``MOST_SERVERS`` at most."""
    return tuple(dict.fromkeys((*present, *fallback)))[:MOST_SERVERS]

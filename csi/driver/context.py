"""``volume_context``: what the controller tells the node about a volume, by way of the PersistentVolume.

The CSI caller hands it back verbatim, and an administrator may write one by hand for a static PersistentVolume;
from here its values reach the arguments of the GlusterFS client. So each one is held to a strict pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from csi.core.errors import InvalidRequest
from csi.core.model import Gid
from csi.core.mountsource import LONGEST_PING_TIMEOUT, MOST_SERVERS, in_order_of, is_server, is_volume

VOLUME = "glusterVolume"
SERVERS = "servers"
PING_TIMEOUT = "pingTimeout"
GID = "gid"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_LARGEST_GID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class VolumeContext:
    """``servers`` in the controller's order of preference. ``gid`` is for the pod's sake; mounting doesn't need it."""

    gluster_volume: str
    servers: tuple[str, ...]
    ping_timeout: int = 8  # seconds
    gid: Gid | None = None

    @classmethod
    def from_map(cls, context: Mapping[str, str]) -> VolumeContext:
        """Other keys are passed over: Kubernetes adds some, and so may a newer controller.

        Raises: InvalidRequest.
        """
        gid = context.get(GID, "")
        return cls(
            gluster_volume=_volume(context.get(VOLUME, "")),
            servers=_servers(context.get(SERVERS, "")),
            ping_timeout=_number(PING_TIMEOUT, context.get(PING_TIMEOUT, "8"), 1, LONGEST_PING_TIMEOUT),
            gid=Gid(_number(GID, gid, 0, _LARGEST_GID)) if gid else None,
        )

    def to_map(self) -> dict[str, str]:
        found = {VOLUME: self.gluster_volume, SERVERS: ",".join(self.servers), PING_TIMEOUT: str(self.ping_timeout)}
        if self.gid is not None:
            found[GID] = str(self.gid)
        return found

    def servers_for(self, node_id: str) -> tuple[str, ...]:
        """The servers in this node's own order."""
        return in_order_of(node_id, self.servers)


def _volume(name: str) -> str:
    if not is_volume(name):
        raise InvalidRequest(
            f"volume_context.{VOLUME}", name, "the name of a Gluster volume: up to 255 letters, digits, '-' and '_'"
        )
    return name


def _servers(text: str) -> tuple[str, ...]:
    servers = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if len(servers) > MOST_SERVERS or not all(is_server(server) for server in servers):
        raise InvalidRequest(
            f"volume_context.{SERVERS}",
            text,
            f"up to {MOST_SERVERS} host names or addresses, parted by commas",
        )
    return servers


def _number(key: str, text: str, least: int, most: int) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise InvalidRequest(f"volume_context.{key}", text, f"a whole number from {least} to {most}")
    return int(text)

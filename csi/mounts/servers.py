"""``ServerLists`` from a file on the node: the present servers of each cluster, and the cluster of each volume.

    {"clusters": {"c1": ["10.0.0.1", "10.0.0.2"]}, "volumes": {"VOLUME_ID": "c1"}}

Whoever knows writes it, with ``remember`` or by hand; it is read again when it has changed. It outlives restarts and
whoever knows being away: an old list of this file is younger than the one in the PersistentVolume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from csi.core import documents, mountsource
from csi.mounts import files

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lists:
    clusters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)

    def servers_of(self, volume_id: str) -> tuple[str, ...]:
        return tuple(filter(mountsource.is_server, self.clusters.get(self.volumes.get(volume_id, ""), ())))


class ServersFile:
    def __init__(self, path: Path, node_id: str) -> None:
        self._path = path
        self._node_id = node_id
        self._lists = Lists()
        self._seen: tuple[int, int, int] | None = None

    async def servers_of(self, volume_id: str) -> tuple[str, ...]:
        self._refresh()
        return mountsource.in_order_of(self._node_id, self._lists.servers_of(volume_id))

    async def remember(self, clusters: Mapping[str, Sequence[str]], volumes: Mapping[str, str]) -> None:
        """Replace both lists, in the file if they have changed. Never raises: they hold for this process anyway."""
        self._refresh()
        lists = Lists({name: tuple(servers) for name, servers in clusters.items()}, dict(volumes))
        if lists == self._lists:
            return
        self._lists = lists
        try:
            await asyncio.to_thread(files.replace, self._path, documents.encode(lists))
            self._seen = self._look()
        except OSError as error:
            _log.warning("server lists can't be written", path=str(self._path), error=str(error))

    async def note(self, volume_id: str, cluster: str, servers: Sequence[str]) -> None:
        """As ``remember``, of one volume and its cluster; the others stay."""
        self._refresh()
        known = self._lists
        await self.remember({**known.clusters, cluster: servers}, {**known.volumes, volume_id: cluster})

    def _refresh(self) -> None:
        """A file that can't be read or understood leaves what was known."""
        try:
            now = self._look()
            if now is None or now == self._seen:
                return
            self._seen = now
            self._lists = documents.decode(self._path.read_bytes(), Lists)
        except (OSError, ValueError) as error:
            _log.warning("server lists can't be read", path=str(self._path), error=str(error))

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

"""The present servers of a volume, for a node: asked of the custom resources when the volume is staged.

A PersistentVolume never changes its volume attributes, so the servers in it are as old as it is. No watch on every
node: staging is seldom, and two small questions cost less than a thousand nodes that are told of every volume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from csi.core.model import Host, Volume
from csi.kubernetes.api import Answer, Api, ApiUnreachable
from csi.store.kube.kinds import BY_RECORD

_log = structlog.get_logger(__name__)

_PATIENCE = 3.0  # seconds; what is remembered is good enough for a pod that waits


class Memory(Protocol):
    """What outlives the API server's being away, and this process."""

    async def servers_of(self, volume_id: str) -> tuple[str, ...]: ...

    async def note(self, volume_id: str, cluster: str, servers: Sequence[str]) -> None: ...


class _VolumeSpec(msgspec.Struct):
    clusterId: str  # noqa: N815 - here and below the name is the API's


class _Volume(msgspec.Struct):
    spec: _VolumeSpec


class _HostSpec(msgspec.Struct):
    storage: str = ""
    clusterId: str = ""  # noqa: N815
    version: int = 0  # 0: a person wrote it, and it is no record yet


class _Host(msgspec.Struct):
    spec: _HostSpec


class _Hosts(msgspec.Struct):
    items: list[_Host]


_VOLUMES = msgspec.json.Decoder(_Volume)
_HOSTS = msgspec.json.Decoder(_Hosts)


class KubeServerLists:
    """Implements ``nodeports.ServerLists``."""

    def __init__(self, api: Api, memory: Memory) -> None:
        self._api = api
        self._memory = memory

    async def servers_of(self, volume_id: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(_PATIENCE):
                volume, hosts = await asyncio.gather(
                    self._api.request("GET", f"{BY_RECORD[Volume].path}/{volume_id}"),
                    self._api.request("GET", BY_RECORD[Host].path),
                )
            await self._learn(volume_id, volume, hosts)
        except (ApiUnreachable, TimeoutError, msgspec.MsgspecError) as error:
            _log.warning("present servers can't be asked for", volume=volume_id, error=str(error) or "no answer")
        return await self._memory.servers_of(volume_id)

    async def _learn(self, volume_id: str, volume: Answer, hosts: Answer) -> None:
        if volume.status == 404:  # a static volume, or one of another driver's state
            return
        if not (volume.good and hosts.good):
            refused = hosts if volume.good else volume
            _log.warning("present servers are not told", volume=volume_id, error=refused.reason)
            return
        cluster = _VOLUMES.decode(volume.body).spec.clusterId
        specs = [host.spec for host in _HOSTS.decode(hosts.body).items]
        found = [spec.storage for spec in specs if spec.version and spec.clusterId == cluster]
        await self._memory.note(volume_id, cluster, found)

"""The administrator's service on the driver's own socket, and its client.

It exists so that `gluster-csi topology load` works while the driver runs and holds the state; the socket's
permissions are its protection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from csi.api import admin_pb2, admin_pb2_grpc
from csi.core import topologyfile
from csi.core.errors import DriverError
from csi.service.topology import Progress, Topology


class AdminService(admin_pb2_grpc.AdminServicer):
    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    async def LoadTopology(  # noqa: N802 - the name is the wire's
        self, request: admin_pb2.LoadTopologyRequest, context: object
    ) -> AsyncIterator[admin_pb2.LoadTopologyProgress]:
        try:
            async for progress in self._topology.load(topologyfile.parse(request.topology_json)):
                yield admin_pb2.LoadTopologyProgress(line=progress.line, failed=progress.failed)
        except DriverError as error:
            yield admin_pb2.LoadTopologyProgress(line=str(error), failed=True)


async def is_served(endpoint: str) -> bool:
    """Whether a driver answers at the endpoint (``unix:///path``)."""
    # Looked at first: without a socket there is nothing to wait for.
    if not await asyncio.to_thread(Path(endpoint.removeprefix("unix://")).is_socket):
        return False
    async with grpc.aio.insecure_channel(endpoint) as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), 2.0)
        except TimeoutError:
            return False
    return True


async def load_topology(endpoint: str, document: bytes) -> AsyncIterator[Progress]:
    """Have the running driver load the topology."""
    async with grpc.aio.insecure_channel(endpoint) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        async for progress in stub.LoadTopology(admin_pb2.LoadTopologyRequest(topology_json=document)):
            yield Progress(progress.line, progress.failed)

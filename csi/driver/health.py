"""Health for probes that come over the network, as a kubelet's do: gRPC health on a port of its own.

The port has nothing but health: whoever reaches the CSI services can make and destroy volumes, so they stay on their
Unix socket. Three services can be asked for: "" is served as long as the event loop turns (liveness), ``serving`` when
the CSI socket is served, ``acting`` when Probe would say ready, which a standby does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csi.core.errors import Unavailable

_Status = health_pb2.HealthCheckResponse


class HealthPort(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # has no types
    """``conditions``: by name of service, asked at each call."""

    def __init__(self, listen: str, conditions: Mapping[str, Callable[[], bool]]) -> None:
        host, _, port = listen.rpartition(":")
        self._address = f"{host or '[::]'}:{port}"
        self._conditions = {"": lambda: True, **conditions}
        # Without the option a second process would share the port, and answer for the first.
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(self, self._server)

    async def start(self) -> int:
        """The number of the port. Raises: Unavailable if it can't be had."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise Unavailable(f"health.listen {self._address}: the port can't be had: {error}") from error
        await self._server.start()
        return port

    async def stop(self) -> None:
        await self._server.stop(0)

    async def Check(  # noqa: N802 - the wire's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        condition = self._conditions.get(request.service)
        if condition is None:
            return await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no such service; there are {sorted(self._conditions)}"
            )
        return _Status(status=_Status.SERVING if condition() else _Status.NOT_SERVING)

"""Health on a port: each condition, asked as a kubelet asks."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csi.core.errors import Unavailable
from csi.driver.health import HealthPort

_Status = health_pb2.HealthCheckResponse


async def check(port: int, service: str) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status)


async def test_each_condition_is_asked_at_each_call() -> None:
    acting = False
    health = HealthPort("127.0.0.1:0", {"serving": lambda: True, "acting": lambda: acting})
    port = await health.start()
    assert await check(port, "") == _Status.SERVING
    assert await check(port, "serving") == _Status.SERVING
    assert await check(port, "acting") == _Status.NOT_SERVING
    acting = True
    assert await check(port, "acting") == _Status.SERVING
    await health.stop()


async def test_an_unknown_service_is_not_found() -> None:
    health = HealthPort("127.0.0.1:0", {})
    port = await health.start()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(port, "other")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    await health.stop()


async def test_a_port_in_use_is_told() -> None:
    first = HealthPort("127.0.0.1:0", {})
    port = await first.start()
    with pytest.raises(Unavailable, match=rf"health.listen 127.0.0.1:{port}"):
        await HealthPort(f"127.0.0.1:{port}", {}).start()
    await first.stop()


async def test_only_health_is_served() -> None:
    health = HealthPort("127.0.0.1:0", {})
    port = await health.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        probe: grpc.aio.UnaryUnaryMultiCallable[None, None]
        probe = channel.unary_unary("/csi.v1.Identity/Probe", lambda _: b"", lambda _: None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await probe(None, timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await health.stop()

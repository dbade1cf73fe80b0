"""The socket: who may have it, what it looks like, how it goes."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csi.api import csi_pb2 as pb
from csi.core.errors import ConfigInvalid, Unavailable
from csi.driver.server import Server
from tests.unit.driver.conftest import Edge, capability


async def test_the_socket_is_the_owners(edge: Edge) -> None:
    found = edge.path.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_the_umask_is_given_back(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        server = Server(f"unix://{tmp_path}/csi.sock")
        await server.start()
        assert os.umask(0o027) == 0o027
        await server.stop(0)
    finally:
        os.umask(before)


async def test_the_socket_goes_with_the_server(tmp_path: Path) -> None:
    server = Server(f"unix://{tmp_path}/csi.sock")
    await server.start()
    assert os.listdir(tmp_path) == ["csi.sock"]
    await server.stop(0)
    assert os.listdir(tmp_path) == []


async def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "csi.sock"))
    server = Server(f"unix://{tmp_path}/csi.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix://{tmp_path}/csi.sock") as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
    await server.stop(0)


async def test_a_socket_in_use_is_left_alone(edge: Edge) -> None:
    with pytest.raises(Unavailable, match="another process serves it"):
        await Server(f"unix://{edge.path}").start()
    assert (await edge.identity.GetPluginInfo(pb.GetPluginInfoRequest())).name == "csi.gluster.org"


async def test_a_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "csi.sock"
    file.write_text("precious")
    with pytest.raises(Unavailable, match="not a socket"):
        await Server(f"unix://{file}").start()
    assert file.read_text() == "precious"


async def test_the_directory_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"directory .*/missing does not exist"):
        await Server(f"unix://{tmp_path}/missing/csi.sock").start()


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("tcp://127.0.0.1:1", "must be unix:///"),
        ("unix://relative.sock", "must be unix:///"),
        ("", "must be unix:///"),
        ("unix:///" + "x" * 105, "106 bytes"),
        ("unix:///" + "ü" * 54, "109 bytes"),
    ],
)
def test_an_endpoint_that_can_not_be_one(endpoint: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid, match=problem):
        Server(endpoint)


async def test_the_longest_path_works(tmp_path: Path) -> None:
    """If it fails, gRPC has changed its limit."""
    path = f"{tmp_path}/".ljust(105, "x")
    server = Server(f"unix://{path}")
    await server.start()
    assert Path(path).is_socket()
    await server.stop(0)


async def test_health(edge: Edge) -> None:
    health = health_pb2_grpc.HealthStub(edge.channel)
    reply = await health.Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest())
    seen = [(await watch.read()).status]
    stopping = asyncio.ensure_future(edge.server.stop(5))
    seen.append((await watch.read()).status)
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    watch.cancel()
    await stopping


def endless(started: asyncio.Event, seconds: float) -> Any:
    async def create(request: Any) -> Any:
        started.set()
        await asyncio.sleep(seconds)
        raise Unavailable("too late")

    return create


async def test_stop_lets_a_running_call_end(edge: Edge) -> None:
    started = asyncio.Event()
    edge.volumes.create = endless(started, 0.2)  # type: ignore[method-assign]
    call = edge.controller.CreateVolume(pb.CreateVolumeRequest(name="x", volume_capabilities=[capability()]))
    running = asyncio.ensure_future(_outcome(call))
    await asyncio.wait_for(started.wait(), 20)
    await edge.server.stop(5)
    assert await running == (grpc.StatusCode.UNAVAILABLE, "too late")


async def test_stop_does_not_wait_for_ever(edge: Edge) -> None:
    started = asyncio.Event()
    edge.volumes.create = endless(started, 60)  # type: ignore[method-assign]
    call = edge.controller.CreateVolume(pb.CreateVolumeRequest(name="x", volume_capabilities=[capability()]))
    running = asyncio.ensure_future(_outcome(call))
    await asyncio.wait_for(started.wait(), 20)
    async with asyncio.timeout(20):
        await edge.server.stop(0.1)
    assert (await running)[0] is grpc.StatusCode.UNAVAILABLE


async def _outcome(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code(), refused.value.details() or ""

"""The interceptor: ids, lines, figures, statuses; over a real socket."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from prometheus_client import REGISTRY

from csi.api import admin_pb2, admin_pb2_grpc
from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from csi.core.errors import Busy
from csi.driver.calls import Calls, short
from tests.unit.driver.conftest import Edge, capability

Events = list[structlog.typing.EventDict]
SECRET = "hunter2-the-password"


def create(name: str = "pvc-1") -> pb.CreateVolumeRequest:
    return pb.CreateVolumeRequest(name=name, volume_capabilities=[capability()], secrets={"key": SECRET})


def calls(method: str, code: str) -> float:
    return REGISTRY.get_sample_value("gluster_csi_calls_total", {"method": method, "code": code}) or 0.0


def timed(method: str) -> float:
    return REGISTRY.get_sample_value("gluster_csi_call_seconds_count", {"method": method}) or 0.0


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code(), refused.value.details() or ""


async def told(log: Events, count: int = 1) -> Events:
    """The lines of calls that have ended. A caller may have the answer before them; on a busy machine all is slow."""
    async with asyncio.timeout(20):
        while len(found := [event for event in log if event["event"] != "call is slow"]) < count:
            await asyncio.sleep(0.005)
    return found


async def test_a_call_leaves_one_line_without_secrets(edge: Edge, log: Events) -> None:
    await edge.controller.CreateVolume(create())
    (line,) = await told(log)
    assert line["method"] == "Controller/CreateVolume"
    assert line["code"] == "OK"
    assert line["fields"]["name"] == "pvc-1"
    assert len(line["request"]) == 8
    assert line["seconds"] >= 0
    assert SECRET not in repr(log)


async def test_every_line_of_a_call_has_its_id(edge: Edge, log: Events) -> None:
    request = create()
    request.parameters["resturl"] = "http://heketi"
    await edge.controller.CreateVolume(request)
    await edge.controller.CreateVolume(create())
    events = await told(log, 3)
    assert [event["event"] for event in events] == ["parameters without use here", "call", "call"]
    first, second, third = (event["request"] for event in events)
    assert first == second != third


async def test_what_is_asked_all_the_time_is_quiet(edge: Edge, log: Events) -> None:
    await edge.identity.Probe(pb.ProbeRequest())
    (line,) = await told(log)
    assert line["log_level" if "log_level" in line else "level"] == "debug"


async def test_figures_count_calls_by_code(edge: Edge) -> None:
    method = "Controller/DeleteVolume"
    good, bad, seen = calls(method, "OK"), calls(method, "INVALID_ARGUMENT"), timed(method)
    await edge.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id="x"))
    await refusal(edge.controller.DeleteVolume(pb.DeleteVolumeRequest()))
    assert calls(method, "OK") == good + 1
    assert calls(method, "INVALID_ARGUMENT") == bad + 1
    assert timed(method) == seen + 2


async def test_an_error_of_ours_becomes_its_status(edge: Edge, log: Events) -> None:
    edge.volumes.failure = Busy("volume x is being made")
    assert await refusal(edge.controller.CreateVolume(create())) == (
        grpc.StatusCode.ABORTED,
        "volume x is being made",
    )
    (line,) = await told(log)
    assert (line["event"], line["error"]) == ("call refused", "volume x is being made")
    assert "exc_info" not in line


async def test_an_unforeseen_error_is_in_the_log_only(edge: Edge, log: Events) -> None:
    edge.volumes.failure = ValueError("the inside of it")
    code, message = await refusal(edge.controller.CreateVolume(create()))
    (line,) = await told(log)
    assert code is grpc.StatusCode.INTERNAL
    assert "the inside" not in message
    assert line["request"] in message
    assert line["exc_info"] is edge.volumes.failure


async def test_a_method_that_we_do_not_have(edge: Edge) -> None:
    request = pb.ControllerPublishVolumeRequest(volume_id="v")
    code, message = await refusal(edge.controller.ControllerPublishVolume(request))
    assert (code, message) == (grpc.StatusCode.UNIMPLEMENTED, "this driver does not have this method")
    code, _ = await refusal(rpc.NodeStub(edge.channel).NodeGetInfo(pb.NodeGetInfoRequest()))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_deadline_ends_the_call_and_is_counted(edge: Edge, log: Events) -> None:
    ended = asyncio.Event()

    async def never(request: object) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    edge.volumes.create = never  # type: ignore[method-assign]
    before = calls("Controller/CreateVolume", "CANCELLED")
    code, _ = await refusal(edge.controller.CreateVolume(create(), timeout=1))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 20)
    assert [(event["event"], event["code"]) for event in await told(log)] == [("call refused", "CANCELLED")]
    assert calls("Controller/CreateVolume", "CANCELLED") == before + 1


class _Odd(rpc.IdentityServicer):
    """Handlers of the kinds that ours are not."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def GetPluginInfo(self, request: pb.GetPluginInfoRequest, context: Any) -> pb.GetPluginInfoResponse:
        await context.abort(grpc.StatusCode.DATA_LOSS, "by the handler itself")
        raise AssertionError("abort returned")

    async def Probe(self, request: pb.ProbeRequest, context: Any) -> pb.ProbeResponse:
        await self.release.wait()
        return pb.ProbeResponse()


class _Stream(admin_pb2_grpc.AdminServicer):
    async def LoadTopology(
        self, request: admin_pb2.LoadTopologyRequest, context: Any
    ) -> AsyncIterator[admin_pb2.LoadTopologyProgress]:
        yield admin_pb2.LoadTopologyProgress(line="first")
        raise Busy("somebody else loads one")


@pytest.fixture
async def odd(tmp_path: Path) -> AsyncIterator[tuple[_Odd, grpc.aio.Channel]]:
    server = grpc.aio.server(interceptors=[Calls(slow=0.05)])
    service = _Odd()
    rpc.add_IdentityServicer_to_server(service, server)
    admin_pb2_grpc.add_AdminServicer_to_server(_Stream(), server)
    server.add_insecure_port(f"unix://{tmp_path}/s.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix://{tmp_path}/s.sock") as channel:
        yield service, channel
    await server.stop(0)


async def test_an_abort_of_the_handler_passes(odd: tuple[_Odd, grpc.aio.Channel], log: Events) -> None:
    stub = rpc.IdentityStub(odd[1])
    assert await refusal(stub.GetPluginInfo(pb.GetPluginInfoRequest())) == (
        grpc.StatusCode.DATA_LOSS,
        "by the handler itself",
    )
    (line,) = await told(log)
    assert (line["code"], line["error"]) == ("DATA_LOSS", "by the handler itself")


async def test_a_slow_call_is_noted_while_it_runs(odd: tuple[_Odd, grpc.aio.Channel], log: Events) -> None:
    service, channel = odd
    running = asyncio.ensure_future(rpc.IdentityStub(channel).Probe(pb.ProbeRequest()))
    async with asyncio.timeout(20):
        while not log:
            await asyncio.sleep(0.01)
    assert [event["event"] for event in log] == ["call is slow"]
    assert log[0]["method"] == "Identity/Probe"
    service.release.set()
    await running
    (line,) = await told(log)
    assert line["request"] == log[0]["request"]


async def test_a_stream_is_a_call_too(odd: tuple[_Odd, grpc.aio.Channel], log: Events) -> None:
    call = admin_pb2_grpc.AdminStub(odd[1]).LoadTopology(admin_pb2.LoadTopologyRequest())
    lines = []

    async def read() -> None:
        async for progress in call:
            lines.append(progress.line)

    assert await refusal(read()) == (grpc.StatusCode.ABORTED, "somebody else loads one")
    assert lines == ["first"]
    assert [(event["event"], event["method"]) for event in await told(log)] == [("call refused", "Admin/LoadTopology")]


def test_methods_are_named_shortly() -> None:
    assert short("/csi.v1.Node/NodeStageVolume") == "Node/NodeStageVolume"
    assert short("/grpc.health.v1.Health/Check") == "Health/Check"


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_secret_in_a_traceback(style: str) -> None:
    """In a process of its own: the configuration of logging is the process's."""
    program = f"""
import structlog
from csi import log
from csi.api import csi_pb2 as pb
log.configure("debug", {style!r})
def handler(request):
    secrets = dict(request.secrets)
    raise ValueError("the inside of it")
try:
    handler(pb.CreateVolumeRequest(secrets={{"key": {SECRET!r}[::-1]}}))
except ValueError as error:
    structlog.get_logger().error("call failed unforeseen", exc_info=error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30, env={**os.environ}
    )
    assert "the inside of it" in done.stderr
    assert "handler" in done.stderr
    assert SECRET[::-1] not in done.stderr

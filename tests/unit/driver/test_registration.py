"""The node plug-in makes itself known to a kubelet, whose part a client plays: real sockets, no sidecar."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
import structlog

from csi.api import csi_pb2, csi_pb2_grpc
from csi.api import pluginregistration_pb2 as pb
from csi.api import pluginregistration_pb2_grpc as rpc
from csi.core.errors import Unavailable
from csi.driver.registration import Registration, Watch

ENDPOINT = "/var/lib/kubelet/plugins/csi.gluster.org/csi.sock"
SOCKET = "csi.gluster.org-reg.sock"


async def ask(path: Path) -> pb.PluginInfo:
    # As the kubelet dials: a socket is there a moment before somebody listens.
    async with grpc.aio.insecure_channel(f"unix://{path}") as channel:
        return await rpc.RegistrationStub(channel).GetInfo(pb.InfoRequest(), timeout=5, wait_for_ready=True)


async def tell(path: Path, registered: bool, error: str = "") -> None:
    async with grpc.aio.insecure_channel(f"unix://{path}") as channel:
        status = pb.RegistrationStatus(plugin_registered=registered, error=error)
        await rpc.RegistrationStub(channel).NotifyRegistrationStatus(status, timeout=5, wait_for_ready=True)


async def until(true: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def registration(tmp_path: Path) -> AsyncIterator[Registration]:
    registration = Registration(tmp_path, "csi.gluster.org", ENDPOINT, Watch(interval=0.05, patience=60))
    await registration.start()
    yield registration
    await registration.stop()


@pytest.mark.usefixtures("registration")
async def test_the_kubelet_is_told_who_we_are(tmp_path: Path) -> None:
    info = await ask(tmp_path / SOCKET)
    assert (info.type, info.name, info.endpoint) == ("CSIPlugin", "csi.gluster.org", ENDPOINT)
    assert list(info.supported_versions) == ["1.0.0"]


@pytest.mark.usefixtures("registration")
async def test_the_socket_is_roots_alone(tmp_path: Path) -> None:
    found = (tmp_path / SOCKET).lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600


async def test_what_the_kubelet_says_is_kept_and_told(
    registration: Registration, tmp_path: Path, log: list[structlog.typing.EventDict]
) -> None:
    assert not registration.registered
    await tell(tmp_path / SOCKET, False, "no handler for this type")
    assert not registration.registered
    assert any(entry.get("reason") == "no handler for this type" and entry["log_level"] == "error" for entry in log)
    await tell(tmp_path / SOCKET, True)
    assert registration.registered


async def test_a_socket_that_is_removed_comes_back(registration: Registration, tmp_path: Path) -> None:
    """As when somebody clears the directory while the kubelet is down."""
    path = tmp_path / SOCKET
    await tell(path, True)
    path.unlink()
    await until(lambda: path.is_socket() and not registration.registered)
    assert (await ask(path)).name == "csi.gluster.org"


async def test_a_socket_that_a_killed_plug_in_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    registration = Registration(tmp_path, "csi.gluster.org", ENDPOINT)
    await registration.start()
    assert (await ask(tmp_path / SOCKET)).name == "csi.gluster.org"
    await registration.stop()


async def test_a_directory_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    directory = tmp_path / "plugins_registry"
    directory.mkdir()
    registration = Registration(directory, "csi.gluster.org", ENDPOINT, Watch(interval=0.05, patience=60))
    await registration.start()
    (directory / SOCKET).unlink()
    directory.rmdir()
    await asyncio.sleep(0.2)
    directory.mkdir()
    await until((directory / SOCKET).is_socket)
    assert (await ask(directory / SOCKET)).name == "csi.gluster.org"
    await registration.stop()


async def test_a_kubelet_that_does_not_take_it_up_is_asked_anew(tmp_path: Path) -> None:
    registration = Registration(tmp_path, "csi.gluster.org", ENDPOINT, Watch(interval=0.02, patience=1.0))
    await registration.start()
    path = tmp_path / SOCKET
    before = path.lstat().st_mtime_ns

    def is_new() -> bool:
        try:
            return path.lstat().st_mtime_ns != before
        except FileNotFoundError:  # between the two: it goes at any moment, by a thread of the server's
            return False

    await until(is_new)
    await tell(path, True)
    kept = path.lstat().st_mtime_ns
    await asyncio.sleep(1.5)
    assert path.lstat().st_mtime_ns == kept  # registered: nothing more to ask
    await registration.stop()


async def test_the_socket_goes_with_the_plug_in(tmp_path: Path) -> None:
    registration = Registration(tmp_path, "csi.gluster.org", ENDPOINT, Watch(interval=0.01))
    await registration.start()
    await registration.stop()
    await asyncio.sleep(0.1)
    assert os.listdir(tmp_path) == []


async def test_a_missing_directory_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"directory .*/missing does not exist"):
        await Registration(tmp_path / "missing", "csi.gluster.org", ENDPOINT).start()


async def test_the_node_role_registers_when_its_socket_answers(tmp_path: Path) -> None:
    """The whole process: what the kubelet is told leads to a NodeGetInfo that is answered."""
    environ = {
        "PATH": os.environ["PATH"],
        "CSI_ENDPOINT": f"unix://{tmp_path}/csi.sock",
        "GLUSTER_CSI_NODE_ID": "node-1",
        "GLUSTER_CSI_NODE__REGISTRATION_DIR": str(tmp_path),
        "GLUSTER_CSI_NODE__LOG_DIR": str(tmp_path),
        "GLUSTER_CSI_METRICS__LISTEN": "",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "csi", "node", env=environ)
    try:
        await until((tmp_path / SOCKET).is_socket, 30)
        info = await ask(tmp_path / SOCKET)
        assert info.endpoint == f"{tmp_path}/csi.sock"
        async with grpc.aio.insecure_channel(f"unix://{info.endpoint}") as channel:
            node = await csi_pb2_grpc.NodeStub(channel).NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=5)
        assert node.node_id == "node-1"
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert os.listdir(tmp_path) == []

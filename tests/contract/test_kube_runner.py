"""What only a runner over the API server can show: which pod is a host's, and what is said when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from csi.core.command import Command, Script
from csi.core.errors import HostUnreachable
from csi.hosts.kube import KubeRunner, KubeSettings
from csi.kubernetes.api import ApiUnreachable
from csi.kubernetes.client import KubernetesApi
from tests.contract.exec_server import ExecServer
from tests.contract.runners.bench import a_host

HELLO = Script((Command(("echo", "hello")),), 10.0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ExecServer]:
    server = ExecServer(tmp_path)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def runner(server: ExecServer) -> AsyncIterator[KubeRunner]:
    runner = KubeRunner(KubernetesApi(server.kubeconfig), KubeSettings("gluster"))
    yield runner
    await runner.close()


@pytest.mark.parametrize("name", ["gluster-0", "n0", "10.9.9.1"])
async def test_a_pod_is_found_by_name_node_and_address(runner: KubeRunner, name: str) -> None:
    assert [result.stdout for result in await runner.run(a_host(name), HELLO)] == ["hello\n"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gluster-1", "no running pod in namespace gluster has this name"),  # pending
        ("n2", "2 running pods in namespace gluster are of this name: twin-a, twin-b"),
        ("nobody", "csi.gluster.org/host=nobody"),
        ("gone", "pod gluster/gone is not there any more"),
    ],
)
async def test_a_host_without_a_pod_says_so(runner: KubeRunner, name: str, says: str) -> None:
    with pytest.raises(HostUnreachable, match=says):
        await runner.run(a_host(name), HELLO)


async def test_a_broken_connection_is_told_and_the_next_one_works(server: ExecServer, runner: KubeRunner) -> None:
    host = a_host("gluster-0")
    running = asyncio.create_task(runner.run(host, Script((Command(("sleep", "60")),), 30.0)))
    while server.sessions < 1:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    await server.cut()
    with pytest.raises(HostUnreachable):
        await running
    assert [result.stdout for result in await runner.run(host, HELLO)] == ["hello\n"]


async def test_an_old_api_server_is_told_apart(server: ExecServer, runner: KubeRunner) -> None:
    server.protocol = "v4.channel.k8s.io"
    with pytest.raises(HostUnreachable, match=r"Kubernetes 1\.30 or newer"):
        await runner.run(a_host("gluster-0"), HELLO)


async def test_an_api_server_that_is_away_is_told(tmp_path: Path) -> None:
    server = ExecServer(tmp_path)
    await server.start()
    runner = KubeRunner(KubernetesApi(server.kubeconfig), KubeSettings("gluster"))
    await server.stop()
    with pytest.raises(HostUnreachable, match="the API server does not answer"):
        await runner.run(a_host("gluster-0"), HELLO)
    await runner.close()


async def test_what_is_closed_opens_nothing_again(server: ExecServer) -> None:
    api = KubernetesApi(server.kubeconfig)
    runner = KubeRunner(api, KubeSettings("gluster"))
    await runner.run(a_host("gluster-0"), HELLO)
    await runner.close()
    with pytest.raises(ApiUnreachable, match="was closed"):
        await api.request("GET", "/api/v1/namespaces/gluster/pods")

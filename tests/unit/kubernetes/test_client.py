"""The way to an API server, where there is none: proxies that the environment names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from csi.kubernetes.api import ApiUnreachable
from csi.kubernetes.client import KubernetesApi

SERVER = "127.0.0.1:9"  # nobody listens there


class Proxy:
    """Refuses everything. ``asked``: the first line of each request."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.answer, "127.0.0.1", 0)
    proxy.url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield proxy
    server.close()
    await server.wait_closed()


async def ask(directory: Path, **cluster: str) -> None:
    kubeconfig = directory / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"https://{SERVER}", **cluster}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    kubeconfig.write_text(json.dumps(document))
    api = KubernetesApi(str(kubeconfig), timeout=5)
    try:
        with pytest.raises(ApiUnreachable):
            await api.request("GET", "/version")
    finally:
        await api.close()


async def test_the_proxy_of_the_environment_is_asked(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    await ask(tmp_path)
    assert proxy.asked == [f"CONNECT {SERVER} HTTP/1.1"]


async def test_what_the_environment_excepts_is_reached_without_it(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    await ask(tmp_path)
    assert proxy.asked == []


async def test_the_proxy_of_the_kubeconfig_goes_first(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:10")
    await ask(tmp_path, **{"proxy-url": proxy.url})
    assert proxy.asked == [f"CONNECT {SERVER} HTTP/1.1"]

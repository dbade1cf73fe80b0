"""Controllers as processes, each with a way to the API server that can be cut."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import yaml

from csi.api import csi_pb2 as pb
from tests.driver import Client

LEASE = {"lease_seconds": 6.0, "renew_seconds": 4.0, "retry_seconds": 0.5}


class Link:
    """A controller's way to the API server, which can be cut: nothing is refused, nothing is answered."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._cut = False
        self._pipes: list[asyncio.Task[None]] = []
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._cut = True

    def mend(self) -> None:
        self._cut = False

    async def stop(self) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        self._pipes += [asyncio.create_task(self._pipe(reader, back)), asyncio.create_task(self._pipe(there, writer))]

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, ssl.SSLError):
                while data := await reader.read(1 << 16):
                    while self._cut:
                        await asyncio.sleep(1)
                    writer.write(data)
        finally:
            writer.close()


class Controller:
    """One process, with its socket, its link and its log. ``command`` gets the path of its configuration as last word.

    ``tables`` are its settings beside those of state and Lease.
    """

    def __init__(
        self, name: str, directory: Path, kubeconfig: str, command: Sequence[str], tables: Mapping[str, Any]
    ) -> None:
        self.name = name
        self._directory = directory / name
        self._directory.mkdir()
        self._command = command
        self._tables = tables
        self._kubeconfig = yaml.safe_load(Path(kubeconfig).read_text())
        self.link = Link(self._kubeconfig["clusters"][0]["cluster"]["server"])
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Also again, after its process has ended."""
        if not self.link.port:
            await self.link.start()
            self._kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.link.port}"
        self.link.mend()
        kubeconfig = self._directory / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(self._kubeconfig))
        tables: dict[str, Any] = {
            "endpoint": f"unix://{self._directory}/csi.sock",
            "state": {"backend": "kubernetes"},
            "kubernetes": {"kubeconfig": str(kubeconfig), "namespace": "default", **LEASE},
            "metrics": {"listen": ""},
            "log": {"format": "text"},
            "gids": {"rest_seconds": 0},
            "shutdown": {"grace": 2.0},
            **self._tables,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
        for table, values in tables.items():
            if isinstance(values, dict):
                lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        config = self._directory / "config.toml"
        config.write_text("\n".join(lines))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self._command, str(config)], stdout=log, stderr=log)

    @property
    def log(self) -> Path:
        return self._directory / "log"

    def client(self) -> Client:
        return Client(self._directory / "csi.sock")

    def ready(self) -> bool | None:
        """None: it does not answer."""
        try:
            with self.client() as client:
                return client.identity.Probe(pb.ProbeRequest(), timeout=5).ready.value
        except grpc.RpcError:
            return None

    async def becomes(self, state: bool, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while await asyncio.to_thread(self.ready) is not state:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            await asyncio.sleep(0.1)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self, seconds: float = 40) -> int:
        """Its exit status."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)

    async def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            await self.ended(10)
        if self.link.port:
            await self.link.stop()

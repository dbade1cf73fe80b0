"""A leader is killed, paused, or cut off from the API server in the middle of a creation: the volume is made, once."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
import yaml

from csi.api import csi_pb2 as pb
from csi.core import naming
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.world import Latency, World
from csi.kubernetes.api import KubernetesApi
from csi.store.kube import snapshot
from tests.crash.traces import difference, traces
from tests.custom_resources import wipe
from tests.driver import GIB, Client, patiently
from tests.keeping import KubectlHand, condition, manifest, until
from tests.standby.shared_hosts import SharedHosts

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

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
    """One process, with its socket, its link and its log."""

    def __init__(self, name: str, directory: Path, hosts: Path, kubeconfig: str) -> None:
        self.name = name
        self._directory = directory / name
        self._directory.mkdir()
        self._hosts = hosts
        self._kubeconfig = yaml.safe_load(Path(kubeconfig).read_text())
        self.link = Link(self._kubeconfig["clusters"][0]["cluster"]["server"])
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, topology: Path) -> None:
        await self.link.start()
        self._kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.link.port}"
        kubeconfig = self._directory / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(self._kubeconfig))
        tables = {
            "state": {"backend": "kubernetes"},
            "kubernetes": {"kubeconfig": str(kubeconfig), "namespace": "default", **LEASE},
            "hosts": {"runner": "local"},
            "metrics": {"listen": ""},
            "log": {"format": "text"},
            "topology": {"file": str(topology)},
            "gids": {"rest_seconds": 0},
            "recovery": {"grace": 60.0, "interval": 0.5, "first": 0.5, "longest": 2.0},
            "shutdown": {"grace": 2.0},
        }
        lines = [f'endpoint = "unix://{self._directory}/csi.sock"']
        for table, values in tables.items():
            lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        config = self._directory / "config.toml"
        config.write_text("\n".join(lines))
        command = [sys.executable, "-m", "tests.standby.controller", str(self._hosts), str(config)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

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

    async def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            await asyncio.to_thread(self.process.wait, 10)
        await self.link.stop()


class Two:
    """Two controllers and their hosts."""

    def __init__(self, directory: Path, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.world = World(Latency(round_trip=0.03, command=0.02))
        self.world.glusterd = SimulatedGlusterd(self.world)
        nodes = []
        for number in range(1, 4):
            self.world.add(f"h{number}", f"10.0.0.{number}", devices=("/srv/d0", "/srv/d1"), size=100 * GIB)
            names = {"manage": [f"h{number}"], "storage": [f"10.0.0.{number}"]}
            nodes.append({"node": {"hostnames": names, "zone": number}, "devices": ["/srv/d0"]})
        self._topology = directory / "topology.json"
        self._topology.write_text(json.dumps({"clusters": [{"nodes": nodes}]}))
        self.hosts = SharedHosts(self.world, directory / "hosts.sock")
        self.leader, self.standby = (
            Controller(name, directory, directory / "hosts.sock", kubeconfig) for name in ("a", "b")
        )

    async def start(self) -> None:
        await self.hosts.start()
        await self.leader.start(self._topology)
        await self.leader.becomes(True)
        await self.standby.start(self._topology)
        await self.standby.becomes(False)

    async def stop(self) -> None:
        await self.leader.stop()
        await self.standby.stop()
        await self.hosts.stop()

    async def operations(self) -> int:
        api = KubernetesApi(self.kubeconfig)
        try:
            return sum(type(record).__name__ == "Operation" for record in (await snapshot.load(api)).records)
        finally:
            await api.close()


@pytest.fixture
async def two(custom_resources: str, tmp_path: Path) -> AsyncIterator[Two]:
    await wipe(custom_resources)
    api = KubernetesApi(custom_resources)
    await api.request("DELETE", "/apis/coordination.k8s.io/v1/namespaces/default/leases/gluster-csi-controller")
    await api.close()
    pair = Two(tmp_path, custom_resources)
    try:
        await pair.start()
        yield pair
    finally:
        await pair.stop()


def create(controller: Controller) -> str:
    with controller.client() as client:
        return patiently(lambda: client.create("pvc-x").volume_id, 60)


def attempt(controller: Controller) -> None:
    """As a sidecar does whose controller is about to go."""
    with suppress(grpc.RpcError), controller.client() as client:
        client.create("pvc-x", timeout=20)


def delete(controller: Controller, volume: str) -> None:
    with controller.client() as client:
        patiently(lambda: client.delete(volume), 60)


HARMS: dict[str, Callable[[Two], None]] = {
    "killed": lambda two: two.leader.send(signal.SIGKILL),
    "paused": lambda two: two.leader.send(signal.SIGSTOP),
    "cut off": lambda two: two.leader.link.cut(),
}


@pytest.mark.parametrize("calls", [4, 9])
@pytest.mark.parametrize("harm", HARMS)
async def test_a_creation_survives_its_leader(two: Two, harm: str, calls: int) -> None:
    empty = traces(two.world)
    before = two.hosts.sent
    attempting = asyncio.create_task(asyncio.to_thread(attempt, two.leader))
    while two.hosts.sent < before + calls:
        await asyncio.sleep(0.001)
    HARMS[harm](two)
    await two.standby.becomes(True)
    volume = await asyncio.to_thread(create, two.standby)
    if harm == "paused":
        two.leader.send(signal.SIGCONT)
    assert two.leader.process is not None
    status = await asyncio.to_thread(two.leader.process.wait, 40)
    assert status == (-signal.SIGKILL if harm == "killed" else 1), two.leader.log.read_text()
    await attempting
    with_volume = traces(two.world)
    assert await asyncio.to_thread(create, two.standby) == volume
    assert difference(with_volume, traces(two.world)) == []
    images = [trace for trace in with_volume if trace.endswith(".img")]
    assert len(images) == 3, images
    assert await two.operations() == 0
    await asyncio.to_thread(delete, two.standby, volume)
    assert difference(empty, traces(two.world)) == []


@pytest.mark.parametrize("calls", [1, 2])
async def test_what_a_person_applies_is_taken_up_by_the_next_leader(two: Two, calls: int) -> None:
    hand, host = KubectlHand(two.kubeconfig), naming.host_id("h1")
    before = two.hosts.sent
    assert await hand.apply(manifest("GlusterDevice", "second", host=host, path="/srv/d1")) == ""
    async with asyncio.timeout(30):
        while two.hosts.sent < before + calls:
            await asyncio.sleep(0.001)
    two.leader.send(signal.SIGKILL)
    await two.standby.becomes(True)

    async def accepted() -> bool:
        return condition(await hand.look("GlusterDevice", "second"), "Accepted").get("status") == "True"

    await until(accepted, 60)
    volume = await asyncio.to_thread(create, two.standby)
    await hand.delete("GlusterDevice", "second")
    await asyncio.to_thread(delete, two.standby, volume)

    async def gone() -> bool:
        return await hand.look("GlusterDevice", "second") is None

    await until(gone, 60)


async def test_a_leader_that_is_told_to_stop_hands_over_at_once(two: Two) -> None:
    two.leader.send(signal.SIGTERM)
    began = time.monotonic()
    assert two.leader.process is not None
    assert await asyncio.to_thread(two.leader.process.wait, 30) == 0
    await two.standby.becomes(True)
    assert time.monotonic() - began < LEASE["lease_seconds"] + 10

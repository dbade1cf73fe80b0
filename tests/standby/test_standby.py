"""A leader is killed, paused, or cut off from the API server in the middle of a creation: the volume is made, once."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from csi.core import naming
from csi.core.model import Operation
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.world import Latency, World
from csi.kubernetes.client import KubernetesApi
from csi.store.kube import snapshot
from tests.crash.traces import difference, traces
from tests.custom_resources import wipe
from tests.driver import GIB, patiently
from tests.keeping import KubectlHand, condition, manifest, until
from tests.standby.controllers import LEASE, Controller
from tests.standby.shared_hosts import SharedHosts

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


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
        topology = directory / "topology.json"
        topology.write_text(json.dumps({"clusters": [{"nodes": nodes}]}))
        self.hosts = SharedHosts(self.world, directory / "hosts.sock")
        command = [sys.executable, "-m", "tests.standby.controller", str(directory / "hosts.sock")]
        tables = {
            "hosts": {"runner": "local"},
            "topology": {"file": str(topology)},
            "recovery": {"grace": 60.0, "interval": 0.5, "first": 0.5, "longest": 2.0},
        }
        self.leader, self.standby = (Controller(name, directory, kubeconfig, command, tables) for name in ("a", "b"))

    async def start(self) -> None:
        await self.hosts.start()
        await self.leader.start()
        await self.leader.becomes(True)
        await self.standby.start()
        await self.standby.becomes(False)

    async def stop(self) -> None:
        await self.leader.stop()
        await self.standby.stop()
        await self.hosts.stop()

    async def no_operations(self) -> bool:
        api = KubernetesApi(self.kubeconfig)
        try:
            return not any(isinstance(record, Operation) for record in (await snapshot.load(api)).records)
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
    status = await two.leader.ended()
    assert status == (-signal.SIGKILL if harm == "killed" else 1), two.leader.log.read_text()
    await attempting
    with_volume = traces(two.world)
    assert await asyncio.to_thread(create, two.standby) == volume
    assert difference(with_volume, traces(two.world)) == []
    images = [trace for trace in with_volume if trace.endswith(".img")]
    assert len(images) == 3, images
    await until(two.no_operations)  # who asked is told before the record is removed
    await asyncio.to_thread(delete, two.standby, volume)
    assert difference(empty, traces(two.world)) == []


@pytest.fixture
async def hand(two: Two) -> AsyncIterator[KubectlHand]:
    hand = KubectlHand(two.kubeconfig)
    yield hand
    await hand.close()


@pytest.mark.parametrize("calls", [1, 2])
async def test_what_a_person_applies_is_taken_up_by_the_next_leader(two: Two, hand: KubectlHand, calls: int) -> None:
    host = naming.host_id("h1")
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
    assert await two.leader.ended(30) == 0
    await two.standby.becomes(True)
    assert time.monotonic() - began < LEASE["lease_seconds"] + 30

"""(e): what a creation costs us, over simulated hosts without latency, as volumes and devices grow in number.

Every pool is filled first; then each makes a few volumes in turn, so that a machine whose speed drifts is as slow for
one as for the other. A few in a row, since no driver shares its processor's caches with five others.
"""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from csi import config, corewiring
from csi.bricks.file import FileBackend
from csi.clock import SystemClock
from csi.core import params, topologyfile
from csi.core.model import Backend
from csi.gluster.adapter import GlusterCli
from csi.hosts.contacts import Contacts, HeardRunner
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.ports import Store
from csi.service.volumes import CreateRequest
from csi.store.sqlite import SqliteStore
from tests.crash.simulated import trial_directory

GIB = 1 << 30
MARKS = (100, 1_000, 10_000)
ROUNDS, IN_A_ROW = 6, 20
POOLS = ((100, 20), (1_000, 50))  # devices, hosts; a trusted pool of more than 64 hosts is unheard of


@dataclass(frozen=True, slots=True)
class Point:
    devices: int
    volumes: int
    p50: float  # milliseconds


class Grown:
    """A driver over a simulated pool of so many devices, with so many volumes."""

    def __init__(self, devices: int, hosts: int, volumes: int, store: Store | None = None) -> None:
        self.devices, self.hosts, self.volumes = devices, hosts, volumes
        self.times: list[float] = []  # milliseconds
        self._directory = trial_directory()
        self._store = store or SqliteStore(self._directory / "state.db")
        self._spec = params.parse({}).spec
        self._made = 0

    async def grow(self) -> None:
        world = World(recording=False)
        world.glusterd = SimulatedGlusterd(world)
        contacts = Contacts()
        self._runner = HeardRunner(SimulatedRunner(world), contacts)
        self._outside = corewiring.Outside(
            store=self._store,
            runner=self._runner,
            gluster=GlusterCli(self._runner, SystemClock(), heard=contacts),
            backends={Backend.FILE: FileBackend(self._runner, "bench")},
            clock=SystemClock(),
            contacts=contacts,
        )
        self._core = corewiring.wire(self._outside, config.load(None, {"GLUSTER_CSI_INSTANCE": "bench"}))
        await self._outside.store.open()
        topology = json.dumps({"clusters": [{"nodes": list(self._nodes(world))}]})
        async for progress in self._core.topology.load(topologyfile.parse(topology)):
            if progress.failed:
                raise RuntimeError(progress.line)
        while self._made < self.volumes:
            await self._create()

    def _nodes(self, world: World) -> Iterator[dict[str, object]]:
        paths = tuple(f"/srv/d{number}" for number in range(self.devices // self.hosts))
        for number in range(self.hosts):
            address = f"10.1.{number // 250}.{number % 250 + 1}"
            world.add(f"h{number}", address, devices=paths, size=4000 * GIB)
            names = {"manage": [f"h{number}"], "storage": [address]}
            yield {"node": {"hostnames": names, "zone": number % 5 + 1}, "devices": list(paths)}

    async def _create(self) -> None:
        await self._core.volumes.create(CreateRequest(f"pvc-{self._made}", GIB, 0, self._spec))
        self._made += 1

    async def sample(self) -> None:
        await self._create()  # warms up
        for _ in range(IN_A_ROW):
            self.times.append(await self.timed())

    async def timed(self) -> float:
        """Milliseconds that a creation takes."""
        began = time.perf_counter()
        await self._create()
        return (time.perf_counter() - began) * 1000

    async def close(self) -> None:
        await self._outside.gluster.close()
        await self._runner.close()
        await self._outside.store.close()
        shutil.rmtree(self._directory)


def spin() -> float:
    """Nanoseconds that a turn of an empty loop takes now: what the milliseconds are worth on this machine."""
    turns, turn = 50_000, 0
    began = time.perf_counter_ns()
    while turn < turns:
        turn += 1
    return (time.perf_counter_ns() - began) / turns


async def _measure() -> tuple[list[Point], float]:
    pools = [Grown(devices, hosts, mark) for devices, hosts in POOLS for mark in MARKS]
    try:
        for pool in pools:
            await pool.grow()
        spins = []
        for _ in range(ROUNDS):
            for pool in pools:
                spins.append(spin())
                await pool.sample()
    finally:
        for pool in pools:
            await pool.close()
    points = [Point(pool.devices, pool.volumes, statistics.median(pool.times)) for pool in pools]
    return points, statistics.median(spins)


def measure() -> tuple[list[Point], float]:
    """The points, and the ``spin`` of the machine meanwhile."""
    try:
        return asyncio.run(_measure())
    finally:
        gc.collect()  # millions of objects: seconds, which the figures of whoever comes next would show

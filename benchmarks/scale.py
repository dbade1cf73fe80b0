"""(e): what a creation costs us, over simulated hosts without latency, as volumes and devices grow in number."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import time
from dataclasses import dataclass

from csi import app, config
from csi.bricks.file import FileBackend
from csi.clock import SystemClock
from csi.core import params, topologyfile
from csi.core.model import Backend
from csi.gluster.adapter import GlusterCli
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.service.volumes import CreateRequest
from csi.store.sqlite import SqliteStore
from tests.crash.simulated import trial_directory

GIB = 1 << 30
MARKS = (100, 1_000, 10_000)
SAMPLE = 100
POOLS = ((100, 25), (1_000, 100))  # devices, hosts


@dataclass(frozen=True, slots=True)
class Point:
    devices: int
    volumes: int
    p50: float  # milliseconds


async def grow(devices: int, hosts: int, marks: tuple[int, ...] = MARKS) -> list[Point]:
    """Create volume after volume; at each mark the median of the next ``SAMPLE``."""
    directory = trial_directory()
    world = World()
    world.glusterd = SimulatedGlusterd(world)
    paths = tuple(f"/srv/d{number}" for number in range(devices // hosts))
    nodes = []
    for number in range(hosts):
        address = f"10.1.{number // 250}.{number % 250 + 1}"
        world.add(f"h{number}", address, devices=paths, size=4000 * GIB)
        names = {"manage": [f"h{number}"], "storage": [address]}
        nodes.append({"node": {"hostnames": names, "zone": number % 5 + 1}, "devices": list(paths)})
    runner = SimulatedRunner(world)
    outside = app.Outside(
        store=SqliteStore(directory / "state.db"),
        runner=runner,
        gluster=GlusterCli(runner, SystemClock()),
        backends={Backend.FILE: FileBackend(runner, "bench")},
        clock=SystemClock(),
    )
    core = app.wire(outside, config.load(None, {"GLUSTER_CSI_INSTANCE": "bench"}))
    await outside.store.open()
    points = []
    try:
        async for progress in core.topology.load(topologyfile.parse(json.dumps({"clusters": [{"nodes": nodes}]}))):
            if progress.failed:
                raise RuntimeError(progress.line)
        spec = params.parse({}).spec
        made = 0
        for mark in marks:
            while made < mark:
                await core.volumes.create(CreateRequest(f"pvc-{made}", GIB, 0, spec))
                made += 1
            times = []
            for _ in range(SAMPLE):
                began = time.perf_counter()
                await core.volumes.create(CreateRequest(f"pvc-{made}", GIB, 0, spec))
                times.append((time.perf_counter() - began) * 1000)
                made += 1
            points.append(Point(devices, mark, statistics.median(times)))
    finally:
        await outside.gluster.close()
        await runner.close()
        await outside.store.close()
        shutil.rmtree(directory)
    return points


def measure() -> list[Point]:
    return [point for devices, hosts in POOLS for point in asyncio.run(grow(devices, hosts))]

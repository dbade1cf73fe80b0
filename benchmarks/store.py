"""The store: what SQLite costs and what custom resources cost, on a real API server with its etcd on this machine.

A creation over simulated hosts without latency is almost nothing but commits, so it shows the worst of it. The stores
take turns, so that a machine whose speed drifts is as slow for one as for the other; a few creations each, since no
driver shares its processor's caches with another store. First one creation at a time, as claims come, each alone on the
machine; then many in a row, where the removal of a creation's operation, for which nobody waits, takes the processors
from the next creation. Start and memory are those of a process of its own that reads 10,000 volumes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scale import GIB, Grown
from csi.core import naming, params
from csi.core.model import Backend, Brick, Cluster, Device, Gid, Host, Record, Volume
from csi.kubernetes.client import KubernetesApi
from csi.ports import Put, Store
from csi.store.kube import KubeStore, resources
from csi.store.kube.kinds import kind_of
from csi.store.sqlite import SqliteStore
from tests.cluster.controlplane import ControlPlane
from tests.custom_resources import install, wipe

ROUNDS = 4
GROWN = 500  # volumes: an API server that has only just started is slower
ALONE_ROUNDS, ALONE = 30, 10
_PAUSE = 0.03  # seconds: what is left of a creation is done
VOLUMES = 10_000
SLOWER = 3.0  # times SQLite's creation
READY = 5.0  # seconds from the start of the process
MEMORY = 150.0  # MiB


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds for a creation and its parts, seconds until a process with so many volumes is ready, MiB."""

    name: str
    create: float
    slow_create: float  # 95 of 100 are faster
    in_a_row: float
    ready: float
    memory: float


def measure() -> tuple[Figures, Figures]:
    with tempfile.TemporaryDirectory(prefix="gluster-csi-bench-") as temporary, ControlPlane() as plane:
        kubeconfig, file = str(plane.kubeconfig), Path(temporary) / "state.db"
        asyncio.run(install(kubeconfig))
        sqlite, kube = asyncio.run(_creations(kubeconfig, Path(temporary) / "grown.db"))
        asyncio.run(wipe(kubeconfig))
        asyncio.run(_fill(SqliteStore(file)))
        asyncio.run(_fill_resources(kubeconfig))
        starts = [_start("sqlite", str(file)), _start("kubernetes", kubeconfig)]
    return Figures("SQLite", *sqlite, *starts[0]), Figures("custom resources", *kube, *starts[1])


async def _creations(kubeconfig: str, file: Path) -> list[tuple[float, float, float]]:
    pools = [
        Grown(100, 20, GROWN, SqliteStore(file)),
        Grown(100, 20, GROWN, KubeStore(KubernetesApi(kubeconfig))),
    ]
    try:
        for pool in pools:
            await pool.grow()
        alone: list[list[float]] = [[], []]
        for _ in range(ALONE_ROUNDS):
            for pool, times in zip(pools, alone, strict=True):
                times.extend(await _one_at_a_time(pool))
        for _ in range(ROUNDS):
            for pool in pools:
                await pool.sample()
                await asyncio.sleep(_PAUSE)
    finally:
        for pool in pools:
            await pool.close()
    return [
        (statistics.median(times), statistics.quantiles(times, n=20)[-1], statistics.median(pool.times))
        for pool, times in zip(pools, alone, strict=True)
    ]


async def _one_at_a_time(pool: Grown) -> list[float]:
    times = []
    for _ in range(1 + ALONE):
        times.append(await pool.timed())
        await asyncio.sleep(_PAUSE)
    return times[1:]  # the first one comes upon the other store's caches


def records() -> list[Record]:
    """A pool of three hosts with so many volumes of three bricks."""
    cluster = Cluster(naming.cluster_id("h0"))
    hosts = [Host(naming.host_id(f"h{n}"), cluster.id, f"h{n}", f"10.0.0.{n}", zone=n) for n in range(1, 4)]
    devices = [Device(naming.device_id(h.id, "/d"), h.id, "/d", Backend.FILE, 1 << 60) for h in hosts]
    spec = params.parse({}).spec
    volumes = []
    for number in range(VOLUMES):
        name = f"pvc-{number:08x}-0000-4000-8000-000000000000"
        volume = naming.volume_id(name)
        bricks = []
        for index, device in enumerate(devices):
            brick = naming.brick_id(volume, 0, index)
            path = naming.brick_directory(device.id, brick)
            bricks.append(Brick(brick, 0, index, device.host_id, device.id, GIB, GIB, path))
        gid = Gid(2000 + number)
        volumes.append(Volume(volume, name, naming.gluster_name(volume), cluster.id, GIB, spec, tuple(bricks), gid))
    return [cluster, *hosts, *devices, *volumes]


async def _fill(store: Store) -> None:
    await store.open()
    await store.commit([Put(record) for record in records()])
    await store.close()


async def _fill_resources(kubeconfig: str) -> None:
    """Side by side, as no store does it."""
    api = KubernetesApi(kubeconfig, timeout=60)
    places = asyncio.Semaphore(16)

    async def make(record: Record) -> None:
        async with places:
            answer = await api.request("POST", kind_of(record).path, None, resources.resource(record))
            assert answer.good, answer.reason

    try:
        await asyncio.gather(*(make(replace(record, version=1)) for record in records()))
    finally:
        await api.close()


def _start(backend: str, place: str) -> tuple[float, float]:
    """Seconds until a new process has read its state, and the memory it then has."""
    command = [sys.executable, "-m", "benchmarks.store", backend, place, str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    answer = json.loads(done.stdout)
    return answer["seconds"], answer["mib"]


async def _read(backend: str, place: str, began: float) -> None:
    from csi import app  # noqa: F401 - the whole program, as a controller has it

    store: Store = SqliteStore(Path(place)) if backend == "sqlite" else KubeStore(KubernetesApi(place))
    await store.open()
    seconds = time.time() - began
    assert len(store.inventory.volumes) == VOLUMES
    status = Path("/proc/self/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"seconds": seconds, "mib": resident / 1024}))
    await store.close()


if __name__ == "__main__":
    asyncio.run(_read(sys.argv[1], sys.argv[2], float(sys.argv[3])))

"""The service over simulated hosts and a store in memory."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from re import fullmatch

import pytest

from csi import config, corewiring
from csi.bricks.filecopies import FileCopies
from csi.bricks.lvmcopies import LvmCopies
from csi.clock import SystemClock
from csi.core import params, topologyfile
from csi.core.model import Backend, Source, Volume
from csi.gluster.adapter import GlusterCli
from csi.hosts.contacts import Contacts, HeardRunner
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.service.topology import Progress
from csi.service.volumes import CreateRequest
from csi.store.memory import MemoryStore
from tests.crash.traces import difference, traces

GIB = 1 << 30


@dataclass(slots=True)
class Pool:
    """Simulated hosts, and a driver over them that can be begun anew with or without its state."""

    world: World
    core: corewiring.Core
    settings: config.Settings
    clean: dict[str, object]

    async def load(self) -> list[Progress]:
        return [progress async for progress in self.core.topology.load(topology(self.world))]

    async def copy(
        self, source: Source, name: str = "copy", size: int = 0, limit: int = 0, **parameters: str
    ) -> Volume:
        """A volume that begins as a copy."""
        spec = params.parse(parameters).spec
        return await self.core.volumes.create(CreateRequest(name, size, limit, spec, source))

    async def create(self, name: str = "pvc", size: int = GIB, **parameters: str) -> Volume:
        return await self.core.volumes.create(CreateRequest(name, size, 0, params.parse(parameters).spec))

    def left(self) -> list[str]:
        """What is on the hosts beyond their claimed devices, and open operations."""
        open_ = [f"{o.kind} {o.direction}: {o.error}" for o in self.core.outside.store.inventory.operations.values()]
        open_ += [f"snapshot {s.name} {s.state}" for s in self.core.outside.store.inventory.snapshots.values()]
        return difference(self.clean, traces(self.world)) + open_

    async def forget(self) -> None:
        """A new driver that knows nothing."""
        await self.core.outside.gluster.close()
        self.core = await driver(self.world, self.settings)


def topology(world: World) -> topologyfile.TopologyFile:
    machines = {m.name: m for m in world.machines.values()}.values()
    nodes = [
        {
            "node": {"hostnames": {"manage": [m.name], "storage": [m.addresses[1]]}, "zone": number + 1},
            "devices": [p for p in (*m.mounts, *m.blocks) if p.startswith("/srv/") or fullmatch("/dev/vd[a-z]", p)],
        }
        for number, m in enumerate(machines)
    ]
    return topologyfile.parse(json.dumps({"clusters": [{"nodes": nodes}]}))


async def driver(world: World, settings: config.Settings) -> corewiring.Core:
    # What was heard is always old, so hosts that a test takes away are missed at once.
    contacts = Contacts(lambda: time.monotonic() - 60)
    runner = HeardRunner(SimulatedRunner(world), contacts)
    outside = corewiring.Outside(
        store=MemoryStore(),
        runner=runner,
        gluster=GlusterCli(runner, SystemClock(), heard=contacts),
        backends={
            Backend.FILE: FileCopies(runner, settings.instance),
            Backend.LVM: LvmCopies(runner, settings.instance),
        },
        clock=SystemClock(),
        contacts=contacts,
    )
    await outside.store.open()
    return corewiring.wire(outside, settings)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Three hosts with a device of 20 GiB each, loaded."""
    world = World()
    world.glusterd = SimulatedGlusterd(world)
    for number in range(1, 4):
        world.add(f"h{number}", f"10.0.0.{number}", devices=("/srv/d0",), size=20 * GIB)
    settings = config.load(None, {"GLUSTER_CSI_GIDS__REST_SECONDS": "0", "GLUSTER_CSI_RECOVERY__GRACE": "0"})
    pool = Pool(world, await driver(world, settings), settings, {})
    failed = [progress.line for progress in await pool.load() if progress.failed]
    assert not failed
    pool.clean = traces(world)
    yield pool
    await pool.core.outside.gluster.close()
    await pool.core.outside.runner.close()

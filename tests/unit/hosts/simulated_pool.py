"""Simulated hosts with one claimed device each, and a brick for each of them."""

from __future__ import annotations

import asyncio

from csi.bricks.file import FileBackend
from csi.core import naming
from csi.core.command import Command, Script
from csi.core.model import Backend, Brick, BrickIdentity, ClusterId, Device, Gid, Host, PlacedBrick, VolumeSpec
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Latency, World

GIB = 1 << 30
NO_LATENCY = Latency()
DEVICE = "/srv/d0"


def host(name: str = "h1") -> Host:
    return Host(naming.host_id(name), ClusterId("c" * 32), name, name, 1)


def placed(on: Host, name: str = "pvc-1", size: int = GIB) -> PlacedBrick:
    volume = naming.volume_id(name)
    device = Device(naming.device_id(on.id, DEVICE), on.id, DEVICE, Backend.FILE, 100 * GIB)
    brick_id = naming.brick_id(volume, 0, 0)
    path = naming.brick_directory(device.id, brick_id)
    brick = Brick(brick_id, 0, 0, on.id, device.id, size, size, path)
    who = BrickIdentity(
        "i", volume, name, naming.gluster_name(volume), on.cluster_id, size, VolumeSpec(), Gid(2000), brick
    )
    return PlacedBrick(who, on, device)


class Pool:
    """A world of hosts with one claimed device each."""

    def __init__(self, hosts: int = 1, size: int = 20 * GIB, latency: Latency = NO_LATENCY) -> None:
        self.slept: list[float] = []
        self.world = World(latency, self._sleep)
        self.hosts = [host(f"h{n}") for n in range(1, hosts + 1)]
        self.machines = [self.world.add(h.manage, devices=(DEVICE,), size=size) for h in self.hosts]
        self.runner = SimulatedRunner(self.world)
        self.backend = FileBackend(self.runner, "i")
        self.bricks = [placed(h) for h in self.hosts]

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    async def claim(self) -> Pool:
        for brick in self.bricks:
            await self.backend.claim(brick.host, brick.device, "i")
        self.slept.clear()
        return self

    async def create(self) -> None:
        await asyncio.gather(*(self.backend.create(b.host, [b]) for b in self.bricks))
        await asyncio.gather(*(self.backend.mount_at_boot(b.host, [b]) for b in self.bricks))

    async def destroy(self) -> None:
        await asyncio.gather(*(self.backend.destroy(b.host, [b]) for b in self.bricks))

    async def run(self, *argv: str, timeout: float = 10.0) -> str:
        return (await self.runner.run(self.hosts[0], Script((Command(argv),), timeout)))[0].stdout

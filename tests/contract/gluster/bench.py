"""The adapter over a pool under test, with which the tests make volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from csi.clock import SystemClock
from csi.core.model import Brick, BrickId, DeviceId, Durability, Gid, Protection, Volume, VolumeId, VolumeSpec
from csi.gluster.adapter import GlusterCli, GlusterSettings
from csi.ports import Pool
from tests.contract.gluster.pools import BRICKS, CLUSTER, PoolUnderTest, Unlucky

NONE = Durability(Protection.NONE)
REPLICA_3 = Durability(Protection.REPLICATE, 1, 2)
MARK = "trusted.glusterfs.volume-id"


@dataclass
class Bench:
    on: PoolUnderTest
    runner: Unlucky
    gluster: GlusterCli
    pool: Pool
    others: list[GlusterCli] = field(default_factory=list)

    def volume(
        self, name: str, durability: Durability = REPLICA_3, hosts: Sequence[int] = (0, 1, 2), *, make: bool = True
    ) -> Volume:
        """``hosts`` are those of its bricks in order; the directories are made."""
        size = durability.set_size
        bricks = []
        for place, host in enumerate(hosts):
            path = f"{BRICKS}/{name}/{place}/brick"
            bricks.append(
                Brick(
                    BrickId(f"{place:032x}"),
                    place // size,
                    place % size,
                    self.on.hosts[host].id,
                    DeviceId("d"),
                    1,
                    1,
                    path,
                )
            )
            if make:
                self.on.make_directory(host, path)
        spec = VolumeSpec(durability=durability)
        return Volume(VolumeId(name), name, name, CLUSTER, 1, spec, tuple(bricks), Gid(2000))

    def hosts(self, volume: Volume) -> list[int]:
        return [next(n for n, h in enumerate(self.on.hosts) if h.id == b.host_id) for b in volume.bricks]

    async def create(self, volume: Volume, gluster: GlusterCli | None = None) -> None:
        await (gluster or self.gluster).create(self.pool, volume, [self.on.hosts[n] for n in self.hosts(volume)])

    async def start(self, name: str, gluster: GlusterCli | None = None) -> None:
        found = await self.gluster.info(self.pool, name)
        await (gluster or self.gluster).start(self.pool, name, found.bricks if found else ())

    async def remove(self, name: str) -> None:
        await self.gluster.remove(self.pool, name, self.on.hosts)

    def marks(self, volume: Volume) -> list[set[str]]:
        places = zip(self.hosts(volume), volume.bricks, strict=True)
        return [self.on.marks(host, brick.path) & {MARK} for host, brick in places]

    def running(self, name: str) -> list[int]:
        """How many brick processes each host has."""
        return [len(self.on.brick_processes(n, name)) for n in range(3)]

    def another(self, settings: GlusterSettings | None = None) -> GlusterCli:
        """A second one, as another process would have it."""
        made = GlusterCli(self.on.runner, SystemClock(), settings or GlusterSettings())
        self.others.append(made)
        return made


only_simulated = pytest.mark.parametrize("bench", ["simulated"], indirect=True)
only_real = pytest.mark.parametrize("bench", [pytest.param("laboratory", marks=pytest.mark.lab)], indirect=True)

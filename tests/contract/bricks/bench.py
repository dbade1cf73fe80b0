"""A backend over a host under test, with which the tests make bricks, and what they expect of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from csi.bricks import identity
from csi.bricks.file import FileBackend
from csi.bricks.identity import DEVICE_MARK
from csi.core import naming
from csi.core.command import Result, Script
from csi.core.errors import HostUnreachable
from csi.core.model import Backend, Brick, BrickIdentity, BrickRole, Device, Gid, Host, PlacedBrick, VolumeSpec
from csi.ports import BrickState, Channel, Runner
from tests.contract.bricks.hosts import HostUnderTest

INSTANCE = "contract"
SIZE = 1 << 30
GID = 2147480000
AnyBench = TypeVar("AnyBench", bound="Bench")
KINDS = ("simulated", "namespace", pytest.param("lab", marks=pytest.mark.lab))


class Interrupted:
    """A runner whose connection breaks after ``after`` commands of a script, or never."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.after: int | None = None
        self.length = 0

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        self.length = len(script.commands)
        if self.after is None:
            return await self._inner.run(host, script)
        await self._inner.run(host, replace(script, commands=script.commands[: self.after]))
        raise HostUnreachable(host.manage, "interrupted")

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        return await self._inner.open(host, argv)

    async def close(self) -> None:
        await self._inner.close()


@dataclass
class Bench:
    on: HostUnderTest
    runner: Interrupted
    backend: FileBackend
    devices: tuple[Device, Device]
    clean: frozenset[str] = frozenset()

    def placed(
        self,
        name: str = "pvc-1",
        *,
        index: int = 0,
        device: int = 0,
        gid: int = GID,
        mode: int = 0o2770,
        size: int = SIZE,
        role: BrickRole = BrickRole.DATA,
    ) -> PlacedBrick:
        volume = naming.volume_id(name)
        brick_id = naming.brick_id(volume, 0, index)
        on = self.devices[device]
        path = naming.brick_directory(on.id, brick_id)
        brick = Brick(brick_id, 0, index, self.on.host.id, on.id, size, size, path, role)
        who = BrickIdentity(
            INSTANCE,
            volume,
            name,
            naming.gluster_name(volume),
            self.on.host.cluster_id,
            size,
            VolumeSpec(),
            Gid(gid),
            brick,
        )
        return PlacedBrick(who, self.on.host, on, mode)

    def mount_point(self, placed: PlacedBrick) -> str:
        return naming.brick_mount(placed.device.id, placed.brick.id)

    async def create(self, *bricks: PlacedBrick) -> None:
        """As the service makes them."""
        await self.backend.create(self.on.host, bricks)
        await self.backend.mount_at_boot(self.on.host, bricks)

    async def destroy(self, *bricks: PlacedBrick) -> None:
        await self.backend.destroy(self.on.host, bricks)

    async def inspect(self, *bricks: PlacedBrick) -> tuple[BrickState, ...]:
        return await self.backend.inspect(self.on.host, bricks)


def tag(placed: PlacedBrick) -> str:
    return f"{placed.device.path}/{placed.brick.id}.json"


def image(placed: PlacedBrick) -> str:
    return naming.brick_image(placed.device.path, placed.brick.id)


def inner(placed: PlacedBrick) -> str:
    return naming.brick_identity(placed.device.id, placed.brick.id)


def another(placed: PlacedBrick) -> str:
    """The identity of another volume's brick, as text."""
    return identity.write(replace(placed.identity, volume_name="another")) + "\n"


def whole(placed: PlacedBrick) -> BrickState:
    return BrickState(True, True, True, placed.identity, placed.brick.size)


def grown(placed: PlacedBrick, size: int) -> PlacedBrick:
    brick = replace(placed.brick, size=size)
    return replace(placed, identity=replace(placed.identity, volume_size=size, brick=brick))


NOTHING = BrickState(False, False, False, None)


def devices_of(on: HostUnderTest) -> tuple[Device, Device]:
    first, second = (
        Device(naming.device_id(on.host.id, path), on.host.id, path, Backend.FILE, 8 << 30) for path in on.devices
    )
    return first, second


@asynccontextmanager
async def claimed(bench: AnyBench) -> AsyncIterator[AnyBench]:
    """With its devices marked as ours, until the end."""
    on = bench.on
    try:
        for device in bench.devices:
            await bench.backend.claim(on.host, device, INSTANCE)
        bench.clean = on.traces()
        yield bench
    finally:
        for device in bench.devices:
            if on.exists(f"{device.path}/{DEVICE_MARK}"):
                on.remove(f"{device.path}/{DEVICE_MARK}")

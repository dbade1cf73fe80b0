"""Bricks kept in files: over simulated hosts, a private namespace of this machine, and the laboratory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi.bricks.file import FileBackend
from csi.bricks.identity import DEVICE_MARK
from csi.core import naming
from csi.core.model import Backend, Device
from tests.contract.bricks.bench import INSTANCE, KINDS, Bench, Interrupted
from tests.contract.bricks.hosts import HostUnderTest, LaboratoryHost, NamespaceHost, SimulatedHost


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    on: HostUnderTest
    match request.param:
        case "simulated":
            on = SimulatedHost()
        case "namespace":
            on = NamespaceHost()
        case _:
            on = LaboratoryHost(request.getfixturevalue("clean_lab"))
    runner = Interrupted(on.runner)
    backend = FileBackend(runner, INSTANCE, on.fstab)
    first, second = (
        Device(naming.device_id(on.host.id, path), on.host.id, path, Backend.FILE, 8 << 30) for path in on.devices
    )
    made = Bench(on, runner, backend, (first, second))
    try:
        for device in made.devices:
            await backend.claim(on.host, device, INSTANCE)
        made.clean = on.traces()
        yield made
    finally:
        for device in made.devices:
            if on.exists(f"{device.path}/{DEVICE_MARK}"):
                on.remove(f"{device.path}/{DEVICE_MARK}")
        await on.close()

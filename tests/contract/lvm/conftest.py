"""Bricks on LVM: over simulated hosts, and in the virtual machine on real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi.bricks.lvmcopies import LvmCopies
from csi.core import naming
from csi.core.model import Backend, Device
from tests.contract.bricks.bench import INSTANCE, Interrupted
from tests.contract.lvm.bench import KINDS, LvmBench
from tests.contract.lvm.hosts import LaboratoryLvmHost, SimulatedLvmHost


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[LvmBench]:
    on: SimulatedLvmHost | LaboratoryLvmHost
    on = SimulatedLvmHost() if request.param == "simulated" else LaboratoryLvmHost(request.getfixturevalue("clean_lab"))
    runner = Interrupted(on.runner)
    backend = LvmCopies(runner, INSTANCE, on.fstab)
    first, second = (
        Device(naming.device_id(on.host.id, path), on.host.id, path, Backend.LVM, 7 << 30) for path in on.devices
    )
    made = LvmBench(on, runner, backend, (first, second))
    on.clear()  # of what a driver of another test has claimed
    try:
        for device in made.devices:
            await backend.claim(on.host, device, INSTANCE)
        made.clean = on.traces()
        yield made
    finally:
        on.clear()
        await on.close()

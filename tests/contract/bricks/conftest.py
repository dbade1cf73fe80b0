"""Bricks kept in files: over simulated hosts, a private namespace of this machine, and the laboratory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi.bricks.file import FileBackend
from tests.contract.bricks.bench import INSTANCE, KINDS, Bench, Interrupted, claimed, devices_of
from tests.contract.bricks.hosts import HostUnderTest, LaboratoryHost, NamespaceHost, SimulatedHost


@pytest.fixture(params=KINDS)
async def on(request: pytest.FixtureRequest) -> AsyncIterator[HostUnderTest]:
    host: HostUnderTest
    match request.param:
        case "simulated":
            host = SimulatedHost()
        case "namespace":
            host = NamespaceHost()
        case _:
            host = LaboratoryHost(request.getfixturevalue("clean_lab"))
    try:
        yield host
    finally:
        await host.close()


@pytest.fixture
async def bench(on: HostUnderTest) -> AsyncIterator[Bench]:
    runner = Interrupted(on.runner)
    async with claimed(Bench(on, runner, FileBackend(runner, INSTANCE, on.fstab), devices_of(on))) as made:
        yield made

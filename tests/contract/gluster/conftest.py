"""``ports.Gluster`` over simulated hosts and over the laboratory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi.clock import SystemClock
from csi.gluster.adapter import GlusterCli
from csi.ports import Pool
from tests.contract.gluster.bench import Bench
from tests.contract.gluster.pools import LaboratoryPool, PoolUnderTest, SimulatedPool, Unlucky


@pytest.fixture(params=["simulated", pytest.param("laboratory", marks=pytest.mark.lab)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    simulated = request.param == "simulated"
    on: PoolUnderTest = SimulatedPool() if simulated else LaboratoryPool(request.getfixturevalue("clean_lab"))
    runner = Unlucky(on.runner)
    bench = Bench(on, runner, GlusterCli(runner, SystemClock()), Pool(on.hosts))
    yield bench
    for gluster in (bench.gluster, *bench.others):
        await gluster.close()
    await on.close()


@pytest.fixture
def laboratory(bench: Bench) -> LaboratoryPool:
    """For what simulated hosts do not do."""
    assert isinstance(bench.on, LaboratoryPool)
    return bench.on


@pytest.fixture
def simulated(bench: Bench) -> SimulatedPool:
    """For what the real tool cannot be made to do here."""
    assert isinstance(bench.on, SimulatedPool)
    return bench.on

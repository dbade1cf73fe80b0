"""What every implementation of ``ports.Gluster`` promises to callers: many at once, and those whose session is lost."""

from __future__ import annotations

import asyncio

import pytest

from csi.core.errors import Busy
from csi.core.model import Volume
from csi.gluster.adapter import GlusterSettings
from csi.ports import Pool
from tests.contract.gluster.bench import Bench, only_simulated
from tests.contract.gluster.pools import SimulatedPool


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("command", ["create", "start", "set", "stop", "delete", "info"])
async def test_a_session_that_breaks(bench: Bench, command: str, after: bool) -> None:
    """Before or after the command had its effect: from here that cannot be told apart."""
    volume = bench.volume("broken")
    bench.runner.at, bench.runner.after = f"volume {command} ".encode(), after
    await bench.create(volume)
    await bench.gluster.set_options(bench.pool, "broken", [("user.a", "1")])
    await bench.start("broken")
    found = await bench.gluster.info(bench.pool, "broken")
    assert found is not None
    assert found.started
    assert ("user.a", "1") in found.options
    await bench.remove("broken")
    assert bench.runner.broken == 1
    assert bench.on.volumes() == set()


async def test_a_locked_volume_is_waited_for(bench: Bench) -> None:
    """Two programs change one volume through two hosts, all at once."""
    await bench.create(bench.volume("locked"))
    backwards = Pool(tuple(reversed(bench.on.hosts)))
    other = bench.another()
    if isinstance(bench.on, SimulatedPool):
        bench.on.glusterd.refuse_locked("locked", 5)
    calls = [(bench.gluster, bench.pool, f"user.a{n}") if n % 2 else (other, backwards, f"user.b{n}") for n in range(8)]
    await asyncio.gather(*(gluster.set_options(pool, "locked", [(key, "1")]) for gluster, pool, key in calls))
    found = await bench.gluster.info(bench.pool, "locked")
    assert found is not None
    assert {key for _, _, key in calls} <= dict(found.options).keys()


@only_simulated
async def test_a_volume_that_stays_locked(bench: Bench, simulated: SimulatedPool) -> None:
    await bench.create(bench.volume("stuck"))
    simulated.glusterd.refuse_locked("stuck", 1000)
    with pytest.raises(Busy, match="another client"):
        await bench.start("stuck", bench.another(GlusterSettings(lock_patience=0.2)))


async def test_many_at_once(bench: Bench) -> None:
    names = [f"many{n}" for n in range(6)]
    volumes = [bench.volume(name) for name in names]

    async def whole(volume: Volume) -> None:
        await bench.create(volume)
        await bench.start(volume.name)

    await asyncio.gather(*map(whole, volumes))
    assert {v.name for v in await bench.gluster.volumes(bench.pool) if v.started} == set(names)
    await asyncio.gather(*map(bench.remove, names))
    assert bench.on.volumes() == set()


async def test_a_caller_who_goes_away(bench: Bench) -> None:
    """Whatever became of the command, the next one is answered with its own answer."""
    volume = bench.volume("leaves")
    for pause in (0.0, 0.001, 0.01, 0.03):
        task = asyncio.create_task(bench.create(volume))
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.wait([task])
        assert await bench.gluster.info(bench.pool, "other") is None
    await bench.create(volume)
    await bench.start("leaves")
    found = await bench.gluster.info(bench.pool, "leaves")
    assert found is not None
    assert found.name == "leaves"
    await bench.remove("leaves")

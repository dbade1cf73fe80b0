"""The barrier of a volume: on, off, and what is said of one that is so already."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.gluster.bench import Bench

ON = ("features.barrier", "enable")


async def made(bench: Bench, *names: str) -> None:
    for name in names:
        await bench.create(bench.volume(name))
        await bench.start(name)


async def on(bench: Bench, name: str) -> bool:
    found = await bench.gluster.info(bench.pool, name)
    assert found is not None
    return ON in found.options


async def test_on_and_off_of_several_at_once(bench: Bench) -> None:
    await made(bench, "v1", "v2")
    await bench.gluster.hold(bench.pool, ["v1", "v2"], 60)
    assert [await on(bench, "v1"), await on(bench, "v2")] == [True, True]
    assert await bench.gluster.unhold(bench.pool, ["v1", "v2"])
    assert [await on(bench, "v1"), await on(bench, "v2")] == [False, False]
    assert not await bench.gluster.unhold(bench.pool, ["v1", "v2"])  # it was off


async def test_one_that_was_left_on_is_had_all_the_same(bench: Bench) -> None:
    await made(bench, "v1")
    await bench.gluster.hold(bench.pool, ["v1"], 60)
    other = bench.another()
    await other.hold(bench.pool, ["v1"], 60)
    assert await other.unhold(bench.pool, ["v1"])
    assert not await on(bench, "v1")


async def test_a_volume_that_is_gone_has_none(bench: Bench) -> None:
    await made(bench, "v1")
    await bench.gluster.hold(bench.pool, ["v1"], 60)
    await bench.remove("v1")
    assert not await bench.gluster.unhold(bench.pool, ["v1"])


@pytest.mark.parametrize("bench", [pytest.param("laboratory", marks=pytest.mark.lab)], indirect=True)
async def test_it_ends_by_itself_though_glusterd_was_down_when_it_was_due(bench: Bench) -> None:
    """Without its glusterd a host can't end it, nor tell whether it is on."""
    await made(bench, "v1")
    await bench.gluster.hold(bench.pool, ["v1"], 1)
    bench.on.stop_glusterd(0)
    await asyncio.sleep(9)
    bench.on.start_glusterd(0)
    async with asyncio.timeout(20):
        while await on(bench, "v1"):
            await asyncio.sleep(0.2)
    assert not await bench.gluster.unhold(bench.pool, ["v1"])

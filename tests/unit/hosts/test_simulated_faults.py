"""Faults of simulated hosts strike as told, our own crash among them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from csi.bricks.file import FileBackend
from csi.core.command import Command, Script
from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Crashed, Fault, Kind, Latency
from tests.unit.hosts.simulated_pool import Pool, host

# --- faults -----------------------------------------------------------------------------------


async def test_an_error_strikes_the_nth_match_and_has_no_effect(pool: Pool) -> None:
    fault = pool.world.inject(Fault("h1", "mkdir *", Kind.ERROR, nth=2, status=9, stderr="broken disk"))
    await pool.run("mkdir", "/one")
    with pytest.raises(CommandFailed, match="broken disk") as caught:
        await pool.run("mkdir", "/two")
    assert caught.value.status == 9
    await pool.run("mkdir", "/three")
    assert [pool.machines[0].is_directory(path) for path in ("/one", "/two", "/three")] == [True, False, True]
    assert (fault.seen, fault.struck) == (3, 1)


async def test_a_fault_is_for_its_host_only() -> None:
    pool = await Pool(hosts=3).claim()
    pool.world.inject(Fault("h2", "csi_brick_format *", Kind.ERROR, stderr="broken disk"))
    ended = await asyncio.gather(*(pool.backend.create(b.host, [b]) for b in pool.bricks), return_exceptions=True)
    assert [type(end) for end in ended] == [type(None), CommandFailed, type(None)]


@pytest.mark.parametrize(("kind", "made"), [(Kind.DROP_BEFORE, False), (Kind.DROP_AFTER, True)])
async def test_a_connection_breaks_before_or_after_the_effect(pool: Pool, kind: Kind, made: bool) -> None:
    pool.world.inject(Fault("*", "mkdir *", kind))
    with pytest.raises(HostUnreachable):
        await pool.run("mkdir", "/one")
    assert pool.machines[0].is_directory("/one") is made
    assert await pool.run("echo", "again") == "again\n"


async def test_a_hang_lasts_until_the_timeout_and_has_no_effect(pool: Pool) -> None:
    pool.world.inject(Fault("*", "mkdir *", Kind.HANG))
    with pytest.raises(CommandTimeout) as caught:
        await pool.run("mkdir", "/one", timeout=33)
    assert caught.value.argv == ("mkdir", "/one")
    assert sum(pool.slept) == 33
    assert not pool.machines[0].is_directory("/one")


async def test_a_host_that_is_down_is_not_reached_until_it_is_up(pool: Pool) -> None:
    channel = await pool.runner.open(pool.hosts[0], ("cat",))
    pool.machines[0].shut_down()
    with pytest.raises(HostUnreachable):
        await pool.run("true")
    pool.machines[0].boot()
    await pool.run("true")
    with pytest.raises(HostUnreachable):
        await channel.write(b"x")
    with pytest.raises(HostUnreachable, match="no such host"):
        await pool.runner.run(host("nowhere"), Script(()))


async def test_hosts_hear_each_other_unless_cut_or_down() -> None:
    pool = Pool(hosts=2)
    a, b = pool.machines
    assert pool.world.reachable(a, b)
    pool.world.cut("h1", "h2")
    assert not pool.world.reachable(b, a)
    pool.world.heal()
    b.shut_down()
    assert not pool.world.reachable(a, b)


async def test_latency_is_per_round_trip_and_per_command() -> None:
    pool = await Pool(latency=Latency(round_trip=5, command=2)).claim()
    await pool.runner.run(pool.hosts[0], Script((Command(("true",)), Command(("true",)))))
    assert sum(pool.slept) == 9
    with pytest.raises(CommandTimeout):
        await pool.runner.run(pool.hosts[0], Script((Command(("true",)), Command(("true",))), timeout=3))


# --- our own crash ----------------------------------------------------------------------------


async def test_every_point_of_a_creation_can_be_the_last() -> None:
    pool = await Pool(hosts=3).claim()
    pool.world.revive()
    await pool.create()
    labels = list(pool.world.points)
    assert len(labels) == 3 * 2 * 8, labels
    assert labels.count("h2: before csi_brick_format") == labels.count("h2: after csi_brick_format") == 1
    ends = set()
    for point in range(len(labels)):
        pool = await Pool(hosts=3).claim()
        pool.world.arm(point)
        with pytest.raises(Crashed):
            await pool.create()
        assert len(pool.world.points) == point + 1
        ends.add(frozenset((m.name, path) for m in pool.machines for path in m.mounts))
        with pytest.raises(Crashed):
            await pool.run("true")
        pool.world.revive()
        with pytest.raises(Crashed):
            await pool.run("true")  # the runner of the life that is over
        backend = FileBackend(SimulatedRunner(pool.world), "i")
        for brick in pool.bricks:
            await backend.create(brick.host, [brick])
            assert (await backend.inspect(brick.host, [brick]))[0].identity == brick.identity
            await backend.destroy(brick.host, [brick])
        assert all(len(machine.mounts) == 1 for machine in pool.machines)
    assert len(ends) > 3


async def test_a_crash_is_no_exception_that_could_be_handled(pool: Pool) -> None:
    pool.world.arm(0)
    assert not issubclass(Crashed, Exception)
    with pytest.raises(Crashed):
        await pool.run("true")
    with pytest.raises(Crashed):
        pool.world.checkpoint("a commit")


async def test_one_that_waited_when_we_crashed_does_nothing_more() -> None:
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait() if seconds else await asyncio.sleep(0)

    pool = await Pool().claim()
    pool.world.sleep = sleep
    waiting: list[Awaitable[object]] = [
        asyncio.create_task(
            pool.runner.run(pool.hosts[0], Script((Command(("sleep", "1")), Command(("mkdir", "/a")))))
        ),
    ]
    await asyncio.sleep(0.01)
    pool.world.crashed = True
    pool.world.revive()
    gate.set()
    with pytest.raises(Crashed):
        await waiting[0]
    assert not pool.machines[0].is_directory("/a")

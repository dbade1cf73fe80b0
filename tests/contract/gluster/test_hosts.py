"""What every implementation of ``ports.Gluster`` promises while hosts, glusterd or bricks are away, and of peers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from csi.core.errors import HostUnreachable, InUse, Unavailable
from csi.core.model import Durability, Protection
from csi.gluster.adapter import GlusterSettings
from csi.ports import Pool
from tests.contract.gluster.bench import NONE, Bench, only_real, only_simulated
from tests.contract.gluster.pools import BRICKS, LaboratoryPool, SimulatedPool


async def test_removal_waits_for_a_peer_that_is_down_and_keeps_its_bricks(bench: Bench) -> None:
    await bench.create(bench.volume("waits", hosts=[0, 1, 2]))
    await bench.start("waits")
    bench.on.power_off(2)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=bench.on.hosts[2].storage):
        await bench.remove("waits")
    assert time.monotonic() - begun < 50
    assert [len(bench.on.brick_processes(n, "waits")) for n in (0, 1)] == [1, 1]
    found = await bench.gluster.info(bench.pool, "waits")
    assert found is not None
    assert found.started
    bench.on.power_on(2)
    # The way to a host that was away is tried again after a pause only.
    while time.monotonic() - begun < 60:
        with suppress(Unavailable):
            await bench.remove("waits")
            break
        await asyncio.sleep(0.5)
    assert bench.on.volumes() == set()


async def test_the_next_host_acts(bench: Bench) -> None:
    await bench.create(bench.volume("before", NONE, [1]))
    bench.on.stop_glusterd(0)
    await bench.create(bench.volume("during", Durability(Protection.REPLICATE, 1, 1), [1, 2]))
    await bench.start("during")
    assert bench.running("during") == [0, 1, 1]
    with pytest.raises(HostUnreachable):
        await bench.gluster.peers(bench.on.hosts[0])
    bench.on.start_glusterd(0)
    await bench.remove("during")


async def test_the_acting_host_loses_power(bench: Bench) -> None:
    await bench.create(bench.volume("before", NONE, [1]))
    bench.on.power_off(0)
    assert await bench.gluster.info(bench.pool, "before") is not None
    assert len(await bench.gluster.volumes(bench.pool)) == 1
    bench.on.power_on(0)


async def test_glusterd_is_gone_under_a_session(bench: Bench) -> None:
    """The session says nothing then. The host is up, and the next one has to be asked all the same."""
    await bench.create(bench.volume("gone", NONE, [1]))
    bench.on.stop_glusterd(0)
    begun = time.monotonic()
    found = await bench.gluster.info(bench.pool, "gone")
    assert found is not None
    assert time.monotonic() - begun < 30
    await bench.start("gone")
    with pytest.raises(HostUnreachable, match="glusterd"):
        await bench.gluster.peers(bench.on.hosts[0])


async def test_no_host_answers(bench: Bench) -> None:
    with pytest.raises(Unavailable, match="no hosts"):
        await bench.gluster.info(Pool(()), "any")


async def test_start_tells_of_bricks_that_are_not_online(bench: Bench) -> None:
    await bench.create(bench.volume("dark", hosts=[0, 1, 2]))
    bench.on.stop_glusterd(2)
    with pytest.raises(Unavailable, match=f"{bench.on.hosts[2].storage}:{BRICKS}/dark/2/brick"):
        await bench.start("dark")
    bench.on.start_glusterd(2)
    await bench.start("dark")
    assert bench.running("dark") == [1, 1, 1]


async def test_start_brings_dead_bricks_of_a_started_volume_up(bench: Bench) -> None:
    await bench.create(bench.volume("died"))
    await bench.start("died")
    (pid,) = bench.on.brick_processes(1, "died")
    bench.on.kill_process(1, pid)
    for _ in range(50):  # glusterd has to notice
        await bench.start("died")
        if bench.running("died") == [1, 1, 1]:
            break
        await asyncio.sleep(0.1)
    assert bench.running("died") == [1, 1, 1]
    assert bench.on.brick_processes(1, "died") != [pid]


@pytest.mark.parametrize("host", [0, 1])
async def test_a_brick_that_could_not_be_started_at_first(bench: Bench, host: int) -> None:
    """Its port was taken by another, say, between glusterd's choice and the brick's bind."""
    await bench.create(bench.volume("again"))
    bench.on.fail_next_brick(host)
    await bench.start("again")
    assert bench.running("again") == [1, 1, 1]


@only_real
@pytest.mark.parametrize("lacking", [1, 2])
async def test_a_volume_that_is_started_on_some_hosts_only(
    bench: Bench, laboratory: LaboratoryPool, lacking: int
) -> None:
    """The second of them acts for volumes of these names: as one that has it started, and as one that has not."""
    for name in ("half", "piece"):
        await bench.create(bench.volume(name))
        laboratory.fail_next_brick(lacking)
        host = laboratory.lab.hosts[0]
        said = laboratory.lab.run(host, ["gluster", "--mode=script", "volume", "start", name], check=False)
        assert "Commit failed" in said.stderr + said.stdout
        assert bench.running(name) == [1, int(lacking != 1), int(lacking != 2)]
    await bench.remove("half")
    assert (bench.running("half"), bench.on.volumes()) == ([0, 0, 0], {"piece"})
    await bench.start("piece")
    assert bench.running("piece") == [1, 1, 1]


@only_simulated
async def test_a_brick_that_never_comes_up(bench: Bench, simulated: SimulatedPool) -> None:
    await bench.create(bench.volume("never"))
    simulated.glusterd.keep_down(simulated.world.machines["10.0.0.2"], f"{BRICKS}/never/1/brick")
    impatient = bench.another(GlusterSettings(start_timeout=0.1))
    with pytest.raises(Unavailable, match=f"10.0.0.2:{BRICKS}/never/1/brick"):
        await bench.start("never", impatient)


# --- peers ------------------------------------------------------------------------------------


async def test_peers(bench: Bench) -> None:
    peers = await bench.gluster.peers(bench.on.hosts[0])
    assert {name for peer in peers for name in peer.hostnames} == {h.storage for h in bench.on.hosts[1:]}
    assert all(peer.connected and peer.in_cluster for peer in peers)
    bench.on.stop_glusterd(1)
    for _ in range(100):
        peers = await bench.gluster.peers(bench.on.hosts[0])
        if not all(peer.connected for peer in peers):
            break
        await asyncio.sleep(0.05)
    assert [peer.connected for peer in peers if bench.on.hosts[1].storage in peer.hostnames] == [False]


async def test_probes_that_have_nothing_to_do(bench: Bench) -> None:
    await bench.gluster.probe(bench.on.hosts[0], bench.on.hosts[1].storage)
    await bench.gluster.probe(bench.on.hosts[0], bench.on.hosts[0].storage)
    assert len(await bench.gluster.peers(bench.on.hosts[0])) == 2


async def test_probe_of_a_host_that_is_not_there(bench: Bench) -> None:
    bench.on.stop_glusterd(1)
    hurried = bench.another(GlusterSettings(join_timeout=0.3))
    with pytest.raises(Unavailable, match="not connected"):
        await hurried.probe(bench.on.hosts[0], bench.on.hosts[1].storage)
    with pytest.raises(Unavailable, match="24007"):
        await hurried.probe(bench.on.hosts[0], "no.such.name.invalid")


@only_simulated
async def test_probe_of_a_new_host(bench: Bench, simulated: SimulatedPool) -> None:
    simulated.world.add("10.0.0.4")
    await bench.gluster.probe(bench.on.hosts[0], "10.0.0.4")
    assert len(await bench.gluster.peers(bench.on.hosts[2])) == 3


@only_simulated
async def test_probe_of_a_host_of_another_pool(bench: Bench, simulated: SimulatedPool) -> None:
    four, five = simulated.world.add("10.0.0.4"), simulated.world.add("10.0.0.5")
    simulated.glusterd.answer(four, ["peer", "probe", five.name])
    with pytest.raises(InUse, match="another cluster"):
        await bench.gluster.probe(bench.on.hosts[0], "10.0.0.4")

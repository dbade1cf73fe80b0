"""Who is asked whether he is there."""

from __future__ import annotations

import pytest

from csi.clock import SystemClock
from csi.core import naming
from csi.core.command import Command, Script
from csi.core.model import ClusterId, Host
from csi.gluster.reach import Reach
from csi.hosts.contacts import Contacts, HeardRunner
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.ports import Peer, Pool
from csi.service.presence import Presence

HOSTS = tuple(Host(naming.host_id(n), ClusterId("c" * 32), n, f"10.0.0.{n[1]}", zone=1) for n in ("h1", "h2"))


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    def __init__(self) -> None:
        self.time = Time()
        self.clock = SystemClock()
        self.clock.monotonic = self.time  # type: ignore[method-assign]
        self.world = World()
        for host in HOSTS:
            self.world.add(host.manage, host.storage)
        self.contacts = Contacts(self.time)
        self.runner = HeardRunner(SimulatedRunner(self.world), self.contacts)

    @property
    def knocks(self) -> int:
        return sum(label.endswith("before true") for label in self.world.points)

    async def work(self) -> None:
        """Any command, on all hosts."""
        for host in HOSTS:
            await self.runner.run(host, Script((Command(("mkdir", "-p", "--", "/srv")),)))

    async def peers(self) -> tuple[Peer, ...]:
        """As a glusterd that has not noticed anything."""
        return tuple(Peer(host.id, (host.storage,), connected=True, in_cluster=True) for host in HOSTS)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_who_answered_a_moment_ago_is_not_asked(bench: Bench) -> None:
    presence = Presence(bench.runner, bench.clock, bench.contacts)
    await bench.work()
    assert await presence.silent(HOSTS) == frozenset()
    assert bench.knocks == 0
    bench.time.now += 2.1
    bench.world.machines["h1"].up = False
    assert await presence.silent(HOSTS) == {HOSTS[0].id}
    assert await presence.silent(HOSTS) == {HOSTS[0].id}, "asked again: it did not answer"


async def test_a_host_that_is_silent_anew_has_the_full_time_to_be_noticed(bench: Bench) -> None:
    """What was noted of an earlier silence must not make the next one look old: glusterd has not noticed that one."""
    reach, pool = Reach(bench.runner, bench.clock, bench.contacts), Pool(HOSTS)
    h1 = bench.world.machines["h1"]
    h1.up = False
    with pytest.raises(Exception, match="h1 does not answer, and glusterd on the others has not noticed"):
        await reach.check(pool, bench.peers)
    h1.up = True
    bench.time.now += 30
    await bench.work()
    await reach.check(pool, bench.peers)
    h1.up = False
    bench.time.now += 100
    with pytest.raises(Exception, match="h1 does not answer, and glusterd on the others has not noticed"):
        await reach.check(pool, bench.peers)
    bench.time.now += 61
    await reach.check(pool, bench.peers)

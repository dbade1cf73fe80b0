"""What every implementation of ``ports.Gluster`` promises, over simulated hosts and over the laboratory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from csi.clock import SystemClock
from csi.core.errors import Busy, GlusterFailed, HostUnreachable, Incoherent, InUse, InvalidRequest, Unavailable
from csi.core.model import Brick, BrickId, DeviceId, Durability, Gid, Protection, Volume, VolumeId, VolumeSpec
from csi.gluster.adapter import GlusterCli, GlusterSettings
from csi.ports import Pool
from tests.contract.gluster_pools import BRICKS, CLUSTER, LaboratoryPool, PoolUnderTest, SimulatedPool, Unlucky

NONE = Durability(Protection.NONE)
REPLICA_3 = Durability(Protection.REPLICATE, 1, 2)
MARK = "trusted.glusterfs.volume-id"


@dataclass
class Bench:
    on: PoolUnderTest
    runner: Unlucky
    gluster: GlusterCli
    pool: Pool
    others: list[GlusterCli] = field(default_factory=list)

    def volume(
        self, name: str, durability: Durability = REPLICA_3, hosts: Sequence[int] = (0, 1, 2), *, make: bool = True
    ) -> Volume:
        """``hosts`` are those of its bricks in order; the directories are made."""
        size = durability.set_size
        bricks = []
        for place, host in enumerate(hosts):
            path = f"{BRICKS}/{name}/{place}/brick"
            bricks.append(
                Brick(
                    BrickId(f"{place:032x}"),
                    place // size,
                    place % size,
                    self.on.hosts[host].id,
                    DeviceId("d"),
                    1,
                    1,
                    path,
                )
            )
            if make:
                self.on.make_directory(host, path)
        spec = VolumeSpec(durability=durability)
        return Volume(VolumeId(name), name, name, CLUSTER, 1, spec, tuple(bricks), Gid(2000))

    def hosts(self, volume: Volume) -> list[int]:
        return [next(n for n, h in enumerate(self.on.hosts) if h.id == b.host_id) for b in volume.bricks]

    async def create(self, volume: Volume, gluster: GlusterCli | None = None) -> None:
        await (gluster or self.gluster).create(self.pool, volume, [self.on.hosts[n] for n in self.hosts(volume)])

    async def start(self, name: str, gluster: GlusterCli | None = None) -> None:
        found = await self.gluster.info(self.pool, name)
        await (gluster or self.gluster).start(self.pool, name, found.bricks if found else ())

    async def remove(self, name: str) -> None:
        await self.gluster.remove(self.pool, name, self.on.hosts)

    def marks(self, volume: Volume) -> list[set[str]]:
        places = zip(self.hosts(volume), volume.bricks, strict=True)
        return [self.on.marks(host, brick.path) & {MARK} for host, brick in places]

    def running(self, name: str) -> list[int]:
        """How many brick processes each host has."""
        return [len(self.on.brick_processes(n, name)) for n in range(3)]

    def another(self, settings: GlusterSettings | None = None) -> GlusterCli:
        """A second one, as another process would have it."""
        made = GlusterCli(self.on.runner, SystemClock(), settings or GlusterSettings())
        self.others.append(made)
        return made


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


only_simulated = pytest.mark.parametrize("bench", ["simulated"], indirect=True)


@pytest.fixture
def simulated(bench: Bench) -> SimulatedPool:
    """For what the real tool cannot be made to do here."""
    assert isinstance(bench.on, SimulatedPool)
    return bench.on


async def test_the_life_of_a_volume(bench: Bench) -> None:
    volume = bench.volume("life")
    assert await bench.gluster.info(bench.pool, "life") is None
    await bench.create(volume)
    found = await bench.gluster.info(bench.pool, "life")
    assert found is not None
    assert (found.name, found.started) == ("life", False)
    assert found.bricks == tuple((bench.on.hosts[n].storage, f"{BRICKS}/life/{n}/brick") for n in range(3))
    assert len(found.uuid) == 36

    await bench.start("life")
    assert bench.running("life") == [1, 1, 1]
    found = await bench.gluster.info(bench.pool, "life")
    assert found is not None
    assert found.started
    assert [v.name for v in await bench.gluster.volumes(bench.pool)] == ["life"]

    await bench.remove("life")
    assert bench.running("life") == [0, 0, 0]
    assert await bench.gluster.info(bench.pool, "life") is None
    assert await bench.gluster.volumes(bench.pool) == ()
    assert bench.on.volumes() == set()


@pytest.mark.parametrize(
    ("durability", "hosts"),
    [
        (NONE, [1]),
        (NONE, [0, 1, 2, 0]),
        (Durability(Protection.REPLICATE, 1, 1), [2, 0]),
        (REPLICA_3, [0, 1, 2, 2, 1, 0]),
        (Durability(Protection.REPLICATE, 1, 2, arbiter=True), [1, 2, 0]),
        (Durability(Protection.DISPERSE, 2, 1), [0, 2, 1]),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
async def test_every_durability(bench: Bench, durability: Durability, hosts: list[int]) -> None:
    volume = bench.volume("shape", durability, hosts)
    await bench.create(volume)
    await bench.start("shape")
    found = await bench.gluster.info(bench.pool, "shape")
    assert found is not None
    assert [path for _, path in found.bricks] == [brick.path for brick in volume.bricks]
    assert bench.running("shape") == [hosts.count(n) for n in range(3)]
    await bench.remove("shape")


async def test_a_command_longer_than_a_session_takes(bench: Bench) -> None:
    """Its beginning alone would be a valid command, with fewer bricks."""
    volume = bench.volume("longer-than-that", NONE, [n % 3 for n in range(40)])
    assert sum(len(brick.path) for brick in volume.bricks) > 1023
    await bench.create(volume)
    found = await bench.gluster.info(bench.pool, "longer-than-that")
    assert found is not None
    assert len(found.bricks) == 40
    assert bench.on.volumes() == {"longer-than-that"}


async def test_all_may_be_said_twice(bench: Bench) -> None:
    volume = bench.volume("twice")
    await bench.create(volume)
    await bench.create(volume)
    await bench.start("twice")
    await bench.start("twice")
    assert bench.running("twice") == [1, 1, 1]
    await bench.remove("twice")
    await bench.remove("twice")


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


async def test_options_go_in_one_call(bench: Bench) -> None:
    await bench.create(bench.volume("options"))
    options = [("performance.io-cache", "off"), ("user.text", "a b  c; $(reboot) 'x' \"y\" \\"), ("user.dash", "-1")]
    await bench.gluster.set_options(bench.pool, "options", options)
    found = await bench.gluster.info(bench.pool, "options")
    assert found is not None
    assert set(options) <= set(found.options)

    with pytest.raises(GlusterFailed, match="no-such"):
        await bench.gluster.set_options(bench.pool, "options", [("user.new", "1"), ("no-such.option", "2")])
    found = await bench.gluster.info(bench.pool, "options")
    assert found is not None
    assert "user.new" not in dict(found.options)
    with pytest.raises(GlusterFailed, match="does not exist"):
        await bench.gluster.set_options(bench.pool, "nothing", [("user.new", "1")])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("user.x", "1\nvolume delete bad"),
        ("user.x", "--remote-host=elsewhere"),
        ("user.x", ""),
        ("user.x", "x" * 5000),  # ends the real glusterd
        ("user.x\tuser.y", "1"),
        ("user.x 1 user.y", "1"),
        ("help", "1"),
        ("group", "virt"),
    ],
)
async def test_what_would_be_another_command(bench: Bench, key: str, value: str) -> None:
    await bench.create(bench.volume("bad", NONE, [0]))
    before = await bench.gluster.info(bench.pool, "bad")
    with pytest.raises(InvalidRequest):
        await bench.gluster.set_options(bench.pool, "bad", [("user.first", "1"), (key, value)])
    assert await bench.gluster.info(bench.pool, "bad") == before


@pytest.mark.parametrize("name", ["all", "a b", "a\nvolume stop b", "--xml", "", "help", "a;b", "x" * 256])
async def test_names_that_gluster_takes_for_something_else(bench: Bench, name: str) -> None:
    for call in (
        bench.gluster.info(bench.pool, name),
        bench.gluster.start(bench.pool, name, ()),
        bench.gluster.remove(bench.pool, name, bench.on.hosts),
        bench.create(bench.volume(name, make=False)),
    ):
        with pytest.raises(InvalidRequest):
            await call


async def test_a_volume_of_that_name_with_other_bricks(bench: Bench) -> None:
    await bench.create(bench.volume("taken", NONE, [0, 1]))
    before = await bench.gluster.info(bench.pool, "taken")
    with pytest.raises(Incoherent, match="taken"):
        await bench.create(bench.volume("taken", NONE, [1, 0]))
    assert await bench.gluster.info(bench.pool, "taken") == before


async def test_a_creation_that_fails_half_way(bench: Bench) -> None:
    volume = bench.volume("half", hosts=[0, 1, 2])
    bench.on.remove_directory(2, f"{BRICKS}/half/2")
    with pytest.raises(GlusterFailed, match="No such file or directory"):
        await bench.create(volume)
    assert await bench.gluster.info(bench.pool, "half") is None
    bench.on.make_directory(2, volume.bricks[2].path)
    assert {MARK} in bench.marks(volume), "there is nothing to be cleaned: the test is void"
    await bench.create(volume)
    await bench.start("half")
    assert bench.running("half") == [1, 1, 1]


async def test_directories_of_a_volume_that_is_gone(bench: Bench) -> None:
    volume = bench.volume("again")
    await bench.create(volume)
    await bench.start("again")
    await bench.remove("again")
    assert bench.marks(volume) == [{MARK}] * 3
    await bench.create(volume)
    await bench.start("again")
    assert bench.running("again") == [1, 1, 1]


async def test_a_brick_of_another_volume(bench: Bench) -> None:
    theirs = bench.volume("theirs", NONE, [0, 1])
    await bench.create(theirs)
    ours = bench.volume("ours", NONE, [0, 1])
    stolen = Volume(ours.id, ours.name, ours.gluster_name, CLUSTER, 1, ours.spec, theirs.bricks, Gid(2000))
    with pytest.raises(GlusterFailed, match="existing brick"):
        await bench.create(stolen)
    assert bench.marks(theirs) == [{MARK}] * 2
    await bench.start("theirs")


async def test_a_brick_on_the_root_file_system(bench: Bench) -> None:
    volume = bench.volume("root", NONE, [0, 1])
    path = "/srv/gluster-contract/brick"  # of the laboratory too: its /srv lies on the file system of its root
    bench.on.make_directory(1, path)
    bricks = (volume.bricks[0], Brick(BrickId("b"), 1, 0, volume.bricks[1].host_id, DeviceId("d"), 1, 1, path))
    try:
        with pytest.raises(GlusterFailed, match="root partition"):
            await bench.create(Volume(volume.id, "root", "root", CLUSTER, 1, volume.spec, bricks, Gid(2000)))
    finally:
        bench.on.remove_directory(1, path.rpartition("/")[0])


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


@only_simulated
async def test_a_brick_that_never_comes_up(bench: Bench, simulated: SimulatedPool) -> None:
    await bench.create(bench.volume("never"))
    simulated.glusterd.keep_down(simulated.world.machines["10.0.0.2"], f"{BRICKS}/never/1/brick")
    impatient = bench.another(GlusterSettings(start_timeout=0.1))
    with pytest.raises(Unavailable, match=f"10.0.0.2:{BRICKS}/never/1/brick"):
        await bench.start("never", impatient)


async def test_removal_leaves_other_volumes_alone(bench: Bench) -> None:
    for name in ("v", "v1", "v-1"):
        await bench.create(bench.volume(name))
        await bench.start(name)
    await bench.remove("v")
    assert (bench.running("v"), bench.running("v1"), bench.running("v-1")) == ([0] * 3, [1] * 3, [1] * 3)
    assert bench.on.volumes() == {"v1", "v-1"}


@only_simulated
async def test_snapshots_made_by_hand_stop_a_removal(bench: Bench, simulated: SimulatedPool) -> None:
    await bench.create(bench.volume("snapped"))
    await bench.start("snapped")
    simulated.glusterd.add_snapshots(simulated.world.machines["10.0.0.1"], "snapped", 2)
    with pytest.raises(InUse, match="2 snapshots"):
        await bench.remove("snapped")
    assert bench.running("snapped") == [1, 1, 1]


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

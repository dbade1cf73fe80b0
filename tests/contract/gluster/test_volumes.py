"""What every implementation of ``ports.Gluster`` promises of volumes, from creation to removal."""

from __future__ import annotations

import pytest

from csi.core.errors import GlusterFailed, Incoherent, InUse, InvalidRequest
from csi.core.model import Brick, BrickId, DeviceId, Durability, Gid, Protection, Volume
from tests.contract.gluster.bench import MARK, NONE, REPLICA_3, Bench, only_simulated
from tests.contract.gluster.pools import BRICKS, CLUSTER, SimulatedPool


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


# --- options and names ------------------------------------------------------------------------


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


# --- bricks -----------------------------------------------------------------------------------


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

"""What every BrickBackend promises, over simulated hosts, a private namespace of this machine, and the laboratory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from csi.bricks import identity
from csi.bricks.file import FileBackend
from csi.bricks.identity import DEVICE_MARK, DeviceMark
from csi.core import naming
from csi.core.command import Result, Script
from csi.core.errors import CommandFailed, HostUnreachable, Incoherent, InUse, InvalidRequest, Unavailable
from csi.core.model import (
    Backend,
    Brick,
    BrickIdentity,
    BrickRole,
    Device,
    DeviceId,
    Gid,
    Host,
    PlacedBrick,
    VolumeSpec,
)
from csi.ports import BrickState, Channel, Runner
from tests.contract.brick_hosts import HostUnderTest, LaboratoryHost, NamespaceHost, SimulatedHost

INSTANCE = "contract"
SIZE = 1 << 30
GID = 2147480000
KINDS = ("simulated", "namespace", pytest.param("lab", marks=pytest.mark.lab))


class Interrupted:
    """A runner whose connection breaks after ``after`` commands of a script, or never."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.after: int | None = None
        self.length = 0

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        self.length = len(script.commands)
        if self.after is None:
            return await self._inner.run(host, script)
        await self._inner.run(host, replace(script, commands=script.commands[: self.after]))
        raise HostUnreachable(host.manage, "interrupted")

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        return await self._inner.open(host, argv)

    async def close(self) -> None:
        await self._inner.close()


@dataclass
class Bench:
    on: HostUnderTest
    runner: Interrupted
    backend: FileBackend
    devices: tuple[Device, Device]
    clean: frozenset[str] = frozenset()

    def placed(
        self,
        name: str = "pvc-1",
        *,
        index: int = 0,
        device: int = 0,
        gid: int = GID,
        mode: int = 0o2770,
        size: int = SIZE,
        role: BrickRole = BrickRole.DATA,
    ) -> PlacedBrick:
        volume = naming.volume_id(name)
        brick_id = naming.brick_id(volume, 0, index)
        on = self.devices[device]
        path = naming.brick_directory(on.id, brick_id)
        brick = Brick(brick_id, 0, index, self.on.host.id, on.id, size, size, path, role)
        who = BrickIdentity(
            INSTANCE,
            volume,
            name,
            naming.gluster_name(volume),
            self.on.host.cluster_id,
            size,
            VolumeSpec(),
            Gid(gid),
            brick,
        )
        return PlacedBrick(who, self.on.host, on, mode)

    async def create(self, *bricks: PlacedBrick) -> None:
        """As the service makes them."""
        await self.backend.create(self.on.host, bricks)
        await self.backend.mount_at_boot(self.on.host, bricks)

    async def destroy(self, *bricks: PlacedBrick) -> None:
        await self.backend.destroy(self.on.host, bricks)

    async def inspect(self, *bricks: PlacedBrick) -> tuple[BrickState, ...]:
        return await self.backend.inspect(self.on.host, bricks)


def tag(placed: PlacedBrick) -> str:
    return f"{placed.device.path}/{placed.brick.id}.json"


def image(placed: PlacedBrick) -> str:
    return naming.brick_image(placed.device.path, placed.brick.id)


def inner(placed: PlacedBrick) -> str:
    return naming.brick_identity(placed.device.id, placed.brick.id)


def another(placed: PlacedBrick) -> str:
    """The identity of another volume's brick, as text."""
    return identity.write(replace(placed.identity, volume_name="another")) + "\n"


def whole(placed: PlacedBrick) -> BrickState:
    return BrickState(True, True, True, placed.identity, placed.brick.size)


NOTHING = BrickState(False, False, False, None)


@pytest.fixture(params=KINDS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    on: HostUnderTest
    match request.param:
        case "simulated":
            on = SimulatedHost()
        case "namespace":
            on = NamespaceHost()
        case _:
            on = LaboratoryHost(request.getfixturevalue("clean_lab"))
    runner = Interrupted(on.runner)
    backend = FileBackend(runner, INSTANCE, on.fstab)
    first, second = (
        Device(naming.device_id(on.host.id, path), on.host.id, path, Backend.FILE, 8 << 30) for path in on.devices
    )
    made = Bench(on, runner, backend, (first, second))
    try:
        for device in made.devices:
            await backend.claim(on.host, device, INSTANCE)
        made.clean = on.traces()
        yield made
    finally:
        for device in made.devices:
            if on.exists(f"{device.path}/{DEVICE_MARK}"):
                on.remove(f"{device.path}/{DEVICE_MARK}")
        await on.close()


# --- devices ----------------------------------------------------------------------------------


async def test_a_directory_on_a_disk_of_its_own_can_carry_bricks(bench: Bench) -> None:
    facts = await bench.backend.check(bench.on.host, bench.on.devices[0])
    assert facts.backend is Backend.FILE
    assert 7 << 30 < facts.total < 20 << 30


async def test_the_total_of_a_device_does_not_change_with_our_own_bricks(bench: Bench) -> None:
    before = await bench.backend.check(bench.on.host, bench.on.devices[0])
    placed = bench.placed()
    await bench.create(placed)
    after = await bench.backend.check(bench.on.host, bench.on.devices[0])
    await bench.destroy(placed)
    assert abs(after.total - before.total) < 1 << 20


async def test_what_cannot_carry_bricks_is_refused_with_the_reason(bench: Bench) -> None:
    on = bench.on
    for path, reason in (
        (on.block, "block device"),
        (on.on_root, "root file system"),
        (on.devices[0] + "/nothing", "no such directory"),
        (f"{on.devices[0]}/{DEVICE_MARK}", "not a directory"),
    ):
        with pytest.raises(InvalidRequest, match=reason) as caught:
            await bench.backend.check(on.host, path)
        assert path in str(caught.value)


async def test_the_root_disk_can_be_allowed(bench: Bench) -> None:
    backend = FileBackend(bench.runner, INSTANCE, bench.on.fstab, allow_root_disk=True)
    assert (await backend.check(bench.on.host, bench.on.on_root)).total > SIZE


async def test_a_claim_can_be_repeated(bench: Bench) -> None:
    await bench.backend.claim(bench.on.host, bench.devices[0], INSTANCE)
    assert bench.on.traces() == bench.clean


async def test_a_device_has_one_owner(bench: Bench) -> None:
    first, second = bench.devices
    with pytest.raises(InUse, match=INSTANCE):
        await bench.backend.claim(bench.on.host, first, "somebody else")
    with pytest.raises(InUse, match=first.id):
        await bench.backend.claim(bench.on.host, replace(first, id=second.id), INSTANCE)
    assert bench.on.traces() == bench.clean


async def test_of_two_claims_at_once_one_wins(bench: Bench) -> None:
    device = bench.devices[1]
    bench.on.remove(f"{device.path}/{DEVICE_MARK}")
    claims = [bench.backend.claim(bench.on.host, device, f"instance {n}") for n in range(4)]
    ended = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(end) for end in ended].count(type(None)) == 1
    assert all(end is None or isinstance(end, InUse) for end in ended)


@pytest.mark.parametrize("mark", [None, DeviceMark("another", DeviceId("d" * 32))])
async def test_nothing_is_done_on_a_device_without_our_mark(bench: Bench, mark: DeviceMark | None) -> None:
    placed = bench.placed()
    path = f"{placed.device.path}/{DEVICE_MARK}"
    bench.on.remove(path) if mark is None else bench.on.write(path, identity.write(mark) + "\n")
    before = bench.on.traces()
    reason = "not mounted or not claimed" if mark is None else "another"
    for call in (
        bench.create(placed),
        bench.backend.mount_at_boot(bench.on.host, [placed]),
        bench.destroy(placed),
        bench.inspect(placed),
        bench.backend.find(bench.on.host, bench.devices),
    ):
        with pytest.raises(Unavailable, match=reason) as caught:
            await call
        assert placed.device.path in str(caught.value)
    assert bench.on.traces() == before


# --- creation ---------------------------------------------------------------------------------


async def test_a_brick_is_made_whole_and_removed_whole(bench: Bench) -> None:
    placed = bench.placed()
    assert await bench.inspect(placed) == (NOTHING,)
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    assert bench.on.owner(placed.brick.path) == (0o2770, GID)
    assert bench.on.traces() - bench.clean == {
        f"file {tag(placed)}",
        f"file {image(placed)}",
        f"mount {naming.brick_mount(placed.device.id, placed.brick.id)}",
        f"point {placed.device.id}/{placed.brick.id}",
        f"fstab {image(placed)} {naming.brick_mount(placed.device.id, placed.brick.id)} xfs "
        "loop,noatime,inode64,nouuid,nofail 0 0",
    }
    await bench.destroy(placed)
    assert await bench.inspect(placed) == (NOTHING,)
    assert bench.on.traces() == bench.clean


async def test_several_bricks_of_a_host_are_one_call(bench: Bench) -> None:
    bricks = [bench.placed(index=n, device=n % 2) for n in range(4)]
    await bench.create(*bricks)
    assert await bench.inspect(*bricks) == tuple(map(whole, bricks))
    found = await bench.backend.find(bench.on.host, bench.devices)
    assert sorted(found, key=lambda i: i.brick.index) == [p.identity for p in bricks]
    await bench.destroy(*bricks)
    assert await bench.backend.find(bench.on.host, bench.devices) == ()
    assert bench.on.traces() == bench.clean


async def test_a_volume_may_have_any_name(bench: Bench) -> None:
    placed = bench.placed("\u2028a\x85 'b' \"c\" $(id) `id` \\ ümläut\n\t日本語")
    await bench.create(placed)
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    assert await bench.backend.find(bench.on.host, bench.devices) == (placed.identity,)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_no_bricks_are_no_work(bench: Bench) -> None:
    await bench.create()
    await bench.destroy()
    assert await bench.inspect() == ()
    assert await bench.backend.find(bench.on.host, []) == ()
    assert bench.on.traces() == bench.clean


@pytest.mark.parametrize("mode", [0o770, 0o2775, 0o3777])
async def test_the_directory_has_the_mode_that_is_asked_for(bench: Bench, mode: int) -> None:
    placed = bench.placed(mode=mode, gid=2000)
    await bench.create(placed)
    assert bench.on.owner(placed.brick.path) == (mode, 2000)
    await bench.destroy(placed)


async def test_making_it_again_changes_nothing(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    before = bench.on.traces()
    await bench.create(placed)
    assert bench.on.traces() == before
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.destroy(placed)


async def test_a_creation_interrupted_anywhere_can_be_finished(bench: Bench) -> None:
    placed, other = bench.placed(), bench.placed(index=1)
    await bench.create(placed, other)
    made, length = bench.on.traces(), bench.runner.length
    await bench.destroy(placed, other)
    for after in range(length + 1):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.create(placed, other)
        bench.runner.after = None
        await bench.create(placed, other)
        assert bench.on.traces() == made, f"after {after} commands"
        assert await bench.inspect(placed, other) == (whole(placed), whole(other))
        await bench.destroy(placed, other)
        assert bench.on.traces() == bench.clean


async def test_a_creation_interrupted_anywhere_can_be_undone(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    length = bench.runner.length
    await bench.destroy(placed)
    for after in range(length + 1):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.create(placed)
        bench.runner.after = None
        if bench.on.traces() != bench.clean:
            found = await bench.backend.find(bench.on.host, bench.devices)
            assert found == (placed.identity,), f"after {after} commands"
        await bench.destroy(placed)
        assert bench.on.traces() == bench.clean, f"after {after} commands"


async def test_what_an_interrupted_formatting_left_is_swept_up(bench: Bench) -> None:
    placed = bench.placed()
    stem = tag(placed).removesuffix(".json")
    for number in range(2):
        for end in ("img", "proto"):
            bench.on.write(f"{stem}.1.{end}.part", "half")
        if number == 0:
            await bench.create(placed)
            assert await bench.inspect(placed) == (whole(placed),)
            assert not [trace for trace in bench.on.traces() if trace.endswith(".part")]
        else:
            await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_brick_of_the_same_name_with_another_identity_stays(bench: Bench) -> None:
    placed = bench.placed()
    bench.on.write(tag(placed), another(placed))
    before = bench.on.traces()
    with pytest.raises(Incoherent, match="'another'"):
        await bench.create(placed)
    assert bench.on.traces() == before
    assert bench.on.read(tag(placed)) == another(placed)
    bench.on.remove(tag(placed))


async def test_an_image_without_a_tag_is_not_taken_for_ours(bench: Bench) -> None:
    placed = bench.placed()
    bench.on.write(image(placed), "precious")
    with pytest.raises(Incoherent, match="without a tag"):
        await bench.create(placed)
    assert bench.on.read(image(placed)) == "precious"
    bench.on.remove(image(placed))


async def test_an_image_of_another_size_is_not_taken_for_ours(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    before = bench.on.traces()
    bigger = replace(placed, identity=replace(placed.identity, brick=replace(placed.brick, size=2 * SIZE)))
    with pytest.raises(Incoherent, match=str(SIZE)):
        await bench.create(bigger)
    assert bench.on.traces() == before
    await bench.destroy(placed)


async def test_an_image_that_cannot_be_made_leaves_what_can_be_undone(bench: Bench) -> None:
    placed = bench.placed(size=200 << 20)  # less than an XFS needs
    with pytest.raises(Exception, match="300MB"):
        await bench.create(placed)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_an_fstab_that_cannot_be_written_is_an_error_of_its_own(bench: Bench) -> None:
    """And not the end of the shell that found out."""
    placed = bench.placed()
    await bench.create(placed)
    backend = FileBackend(bench.runner, INSTANCE, "/nowhere/fstab")
    with pytest.raises(CommandFailed, match="/nowhere/fstab"):
        await backend.mount_at_boot(bench.on.host, [placed])
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_shells_that_make_the_same_brick_at_once_do_not_spoil_it(bench: Bench) -> None:
    """A lost caller's shell may still be at work when the next caller comes. Some may fail; none may do harm."""
    placed = bench.placed()
    for _ in range(3):
        await asyncio.gather(*(bench.create(placed) for _ in range(4)), return_exceptions=True)
        await bench.create(placed)
        assert await bench.inspect(placed) == (whole(placed),)
        assert bench.on.owner(placed.brick.path) == (0o2770, GID)
        await asyncio.gather(*(bench.destroy(placed) for _ in range(4)), return_exceptions=True)
        await bench.destroy(placed)
        assert bench.on.traces() == bench.clean


async def test_many_at_once_lose_no_line_of_fstab(bench: Bench) -> None:
    kept = "# a remark\nUUID=1 /somewhere xfs noauto 0 0"
    own = bench.on.read(bench.on.fstab)
    bench.on.write(bench.on.fstab, own + kept)  # without a newline at its end
    bricks = [bench.placed(f"pvc-{n}", device=n % 2) for n in range(6)]
    await asyncio.gather(*(bench.create(placed) for placed in bricks))
    lines = bench.on.read(bench.on.fstab).splitlines()
    assert sorted(line.split()[0] for line in lines[-6:]) == sorted(map(image, bricks))
    assert lines[:-6] == (own + kept).splitlines()
    await asyncio.gather(*(bench.destroy(placed) for placed in bricks))
    assert bench.on.read(bench.on.fstab) == own + kept + "\n"
    bench.on.write(bench.on.fstab, own)
    assert bench.on.traces() == bench.clean


async def test_an_old_line_for_the_mount_point_is_replaced(bench: Bench) -> None:
    placed = bench.placed()
    own = bench.on.read(bench.on.fstab)
    point = naming.brick_mount(placed.device.id, placed.brick.id)
    bench.on.write(
        bench.on.fstab, f"{own}/old.img {point} xfs loop 0 0\n/old.img {point}0 xfs loop,noauto,nofail 0 0\n"
    )
    await bench.create(placed)
    lines = [line for line in bench.on.read(bench.on.fstab).splitlines() if point in line]
    assert sorted(line.split()[0] for line in lines) == sorted(["/old.img", image(placed)])
    await bench.destroy(placed)
    assert bench.on.read(bench.on.fstab) == f"{own}/old.img {point}0 xfs loop,noauto,nofail 0 0\n"
    bench.on.write(bench.on.fstab, own)


# --- life -------------------------------------------------------------------------------------


async def test_bricks_are_mounted_again_after_a_reboot(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bench.on.reboot()
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.destroy(placed)
    bench.on.reboot()
    assert bench.on.traces() == bench.clean


async def test_nothing_can_be_written_where_a_brick_should_be_mounted(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    point = naming.brick_mount(placed.device.id, placed.brick.id)
    bench.on.unmount(point)
    state = (await bench.inspect(placed))[0]
    assert (state.image, state.mounted, state.directory, state.identity) == (True, False, False, placed.identity)
    with pytest.raises((OSError, AssertionError), match="not permitted"):
        bench.on.write(f"{point}/on-the-root-disk", "x")
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    bench.on.unmount(point)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_owner_and_mode_that_users_gave_to_the_directory_stay(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    await bench.create(replace(placed, root_mode=0o2775))
    assert bench.on.owner(placed.brick.path) == (0o2770, GID)
    await bench.destroy(placed)


# --- destruction ------------------------------------------------------------------------------


async def test_destroying_what_is_not_there_is_fine(bench: Bench) -> None:
    await bench.destroy(bench.placed())
    assert bench.on.traces() == bench.clean


async def test_a_destruction_interrupted_anywhere_can_be_finished(bench: Bench) -> None:
    placed, other = bench.placed(), bench.placed(index=1)
    await bench.create(placed, other)
    await bench.destroy(placed, other)
    for after in range(bench.runner.length + 1):
        await bench.create(placed, other)
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.destroy(placed, other)
        bench.runner.after = None
        await bench.destroy(placed, other)
        assert bench.on.traces() == bench.clean, f"after {after} commands"


@pytest.mark.parametrize("where", [tag, inner])
@pytest.mark.parametrize("text", ["another", "not JSON\n", "{}\n"])
async def test_a_brick_that_says_it_is_not_ours_stays(bench: Bench, where: object, text: str) -> None:
    assert callable(where)
    good, bad = bench.placed(), bench.placed(index=1)
    await bench.create(good, bad)
    before = bench.on.traces()
    bench.on.write(where(bad), another(bad) if text == "another" else text)
    with pytest.raises(Incoherent) as caught:
        await bench.destroy(good, bad)
    assert where(bad) in str(caught.value)
    assert ("volume 'another'" if text == "another" else repr(text.strip())) in str(caught.value)
    assert bench.on.traces() == before
    bench.on.write(where(bad), identity.write(bad.identity) + "\n")
    await bench.destroy(good, bad)
    assert bench.on.traces() == bench.clean


async def test_an_image_whose_tag_is_lost_stays(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bench.on.remove(tag(placed))
    before = bench.on.traces()
    with pytest.raises(Incoherent, match="without a tag"):
        await bench.destroy(placed)
    assert bench.on.traces() == before
    bench.on.write(tag(placed), identity.write(placed.identity) + "\n")
    await bench.destroy(placed)


async def test_identities_written_before_the_volume_grew_are_ours(bench: Bench) -> None:
    bricks = [bench.placed(index=n) for n in range(2)]
    await bench.create(*bricks)
    grown = [replace(p, identity=replace(p.identity, volume_size=5 * SIZE)) for p in bricks]
    await bench.create(*grown)
    assert [s.identity for s in await bench.inspect(*grown)] == [p.identity for p in bricks]
    await bench.destroy(*grown)
    assert bench.on.traces() == bench.clean


def grown(placed: PlacedBrick, size: int) -> PlacedBrick:
    brick = replace(placed.brick, size=size)
    return replace(placed, identity=replace(placed.identity, volume_size=size, brick=brick))


async def test_bricks_grow_while_they_are_in_use(bench: Bench) -> None:
    bricks = [bench.placed(index=n) for n in range(2)]
    await bench.create(*bricks)
    before = [bench.on.size(naming.brick_mount(p.device.id, p.brick.id)) for p in bricks]
    release = bench.on.hold(bricks[0].brick.path)
    # The identity of the one keeps its length, that of the other does not.
    larger = [grown(bricks[0], 10 * SIZE), grown(bricks[1], 2 * SIZE)]
    for _ in range(2):
        await bench.backend.grow(bench.on.host, larger, bricks)
        assert await bench.inspect(*larger) == tuple(map(whole, larger))
        after = [bench.on.size(naming.brick_mount(p.device.id, p.brick.id)) for p in bricks]
        assert [new - old for new, old in zip(after, before, strict=True)] == [9 * SIZE, SIZE]
        for placed in larger:
            assert {bench.on.read(where(placed)) for where in (tag, inner)} == {identity.write(placed.identity) + "\n"}
    release()
    await bench.destroy(*larger)
    assert bench.on.traces() == bench.clean


async def test_a_brick_never_shrinks(bench: Bench) -> None:
    placed = bench.placed(size=2 * SIZE)
    await bench.create(placed)
    point = naming.brick_mount(placed.device.id, placed.brick.id)
    before = bench.on.size(point)
    await bench.backend.grow(bench.on.host, [grown(placed, SIZE)])
    assert bench.on.size(point) == before
    assert (await bench.inspect(placed))[0].size == 2 * SIZE
    await bench.destroy(placed)


async def test_a_growth_interrupted_anywhere_can_be_finished(bench: Bench) -> None:
    bricks = [bench.placed(index=n) for n in range(2)]
    await bench.create(*bricks)
    larger = [grown(placed, 2 * SIZE) for placed in bricks]
    for after in range(4):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.backend.grow(bench.on.host, larger)
        bench.runner.after = None
        for state, placed in zip(await bench.inspect(*bricks), bricks, strict=True):
            assert state.identity is not None
            assert state.identity.owner() == placed.identity.owner()
    await bench.backend.grow(bench.on.host, larger)
    assert await bench.inspect(*larger) == tuple(map(whole, larger))
    await bench.destroy(*bricks)  # by whose record it is still small
    assert bench.on.traces() == bench.clean


async def test_what_is_not_ours_or_not_mounted_does_not_grow(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    larger = grown(placed, 2 * SIZE)
    for where in (tag, inner):
        bench.on.write(where(placed), another(placed))
        with pytest.raises(Incoherent):
            await bench.backend.grow(bench.on.host, [larger])
        bench.on.write(where(placed), identity.write(placed.identity) + "\n")
    assert (await bench.inspect(placed))[0].size == SIZE
    bench.on.unmount(naming.brick_mount(placed.device.id, placed.brick.id))
    with pytest.raises(Unavailable, match="not mounted"):
        await bench.backend.grow(bench.on.host, [larger])
    await bench.destroy(placed)


async def test_an_identity_that_speaks_against_us_is_shown(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    for where in (tag, inner):
        bench.on.write(where(placed), another(placed))
        found = (await bench.inspect(placed))[0].identity
        assert found is not None
        assert found.volume_name == "another"
        bench.on.write(where(placed), identity.write(placed.identity) + "\n")
    await bench.destroy(placed)


async def test_a_brick_in_use_stays_and_its_user_is_named(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    release = bench.on.hold(placed.brick.path)
    try:
        with pytest.raises(Unavailable, match=r"held by processes: *\d+"):
            await bench.destroy(placed)
        state = (await bench.inspect(placed))[0]
        assert (state.image, state.mounted, state.identity) == (True, True, placed.identity)
    finally:
        release()
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_find_passes_over_what_is_not_an_identity(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    strange = f"{placed.device.path}/{'0' * 32}.json"
    bench.on.write(strange, "not an identity\n")
    assert await bench.backend.find(bench.on.host, bench.devices) == (placed.identity,)
    bench.on.remove(strange)
    await bench.destroy(placed)

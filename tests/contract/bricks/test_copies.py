"""What every BrickCopies promises, over simulated hosts, a private namespace of this machine, and the laboratory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from csi.bricks import identity
from csi.bricks.filecopies import FileCopies, stem
from csi.copyports import BrickCopies, Filling, Hold, Pair
from csi.core import naming
from csi.core.copyidentity import CopyIdentity, PlacedCopy
from csi.core.errors import HostUnreachable, Incoherent
from csi.core.model import Copy, PlacedBrick
from tests.contract.bricks.bench import INSTANCE, Bench, Interrupted, another, claimed, devices_of, inner, tag, whole
from tests.contract.bricks.hosts import HostUnderTest, SimulatedHost

BOUND = 5.0


@dataclass
class CopyBench(Bench):
    backend: FileCopies

    def kept(self, brick: PlacedBrick, name: str = "snapshot-1") -> PlacedCopy:
        of, snapshot = brick.identity, naming.snapshot_id(name)
        copy_id = naming.copy_id(snapshot, brick.brick.set, brick.brick.index)
        made = Copy(copy_id, brick.brick.set, brick.brick.index, brick.host.id, brick.device.id, brick.brick.size, 0)
        who = CopyIdentity(
            INSTANCE,
            snapshot,
            name,
            of.volume_id,
            of.volume_name,
            of.cluster_id,
            of.volume_size,
            of.spec,
            of.gid,
            made,
        )
        return PlacedCopy(who, brick.host, brick.device)

    async def copy(self, *pairs: Pair, name: str = "hold") -> float:
        """As the service does it."""
        host, hold = self.on.host, Hold(name, BOUND)
        bricks = [pair.brick for pair in pairs]
        flushed = await self.backend.flush(host, bricks)
        assert all(size > 0 for size in flushed.taken)
        assert flushed.quiet is not isinstance(self.on, SimulatedHost)
        moment = (await self.backend.copy(host, pairs, hold)).moment
        assert await self.backend.release(host, bricks, hold)
        kept = [pair.target for pair in pairs if isinstance(pair.target, PlacedCopy)]
        if kept:
            assert all(size > 0 for size in await self.backend.seal(host, kept))
        return moment

    async def drop(self, *copies: PlacedCopy) -> None:
        await self.backend.destroy_copies(self.on.host, copies)

    def data(self, brick: PlacedBrick) -> str:
        return f"{brick.brick.path}/data"


@pytest.fixture
async def bench(on: HostUnderTest) -> AsyncIterator[CopyBench]:
    runner = Interrupted(on.runner)
    async with claimed(CopyBench(on, runner, FileCopies(runner, INSTANCE, on.fstab), devices_of(on))) as made:
        yield made


def test_the_backend_is_known_to_copy(bench: CopyBench) -> None:
    assert isinstance(bench.backend, BrickCopies)


async def test_a_copy_keeps_what_its_brick_loses(bench: CopyBench) -> None:
    first, second = bench.placed(index=0), bench.placed(index=1, device=1)
    await bench.create(first, second)
    for brick in (first, second):
        bench.on.write(bench.data(brick), "before")
    kept = [bench.kept(first), bench.kept(second)]
    await bench.copy(Pair(first, kept[0]), Pair(second, kept[1]))
    for brick in (first, second):
        bench.on.write(bench.data(brick), "after")
    found = await bench.backend.find_copies(bench.on.host, bench.devices)
    assert sorted(f.identity.copy.id for f in found) == sorted(c.copy.id for c in kept)
    assert {f.identity.copy.id: f.identity for f in found} == {c.copy.id: c.identity for c in kept}
    assert all(f.taken > 0 and f.moment > 1600000000 for f in found)
    await bench.destroy(first, second)
    # Bricks of another volume, made of the copies.
    new = [bench.placed("pvc-2", index=0), bench.placed("pvc-2", index=1, device=1)]
    fillings = [Filling(copy, brick) for copy, brick in zip(kept, new, strict=True)]
    for _ in range(2):
        await bench.backend.fill(bench.on.host, fillings)
        await bench.backend.adopt(bench.on.host, new)
    await bench.backend.mount_at_boot(bench.on.host, new)
    assert await bench.inspect(*new) == tuple(map(whole, new))
    assert [bench.on.read(bench.data(brick)) for brick in new] == ["before", "before"]
    bench.on.write(bench.data(new[0]), "mine")
    for _ in range(2):
        await bench.drop(*kept)
    assert await bench.backend.find_copies(bench.on.host, bench.devices) == ()
    assert bench.on.read(bench.data(new[0])) == "mine"
    await bench.destroy(*new)
    assert bench.on.traces() == bench.clean


async def test_a_brick_can_be_made_straight_of_a_brick_and_grow(bench: CopyBench) -> None:
    brick = bench.placed()
    await bench.create(brick)
    bench.on.write(bench.data(brick), "before")
    new = bench.placed("pvc-2", size=2 << 30)
    await bench.copy(Pair(brick, new))
    await bench.backend.adopt(bench.on.host, [new])
    before = bench.on.size(naming.brick_mount(new.device.id, new.brick.id))
    await bench.backend.grow(bench.on.host, [new])
    assert bench.on.size(naming.brick_mount(new.device.id, new.brick.id)) > before
    await bench.backend.mount_at_boot(bench.on.host, [new])
    bench.on.reboot()
    assert await bench.inspect(brick, new) == (whole(brick), whole(new))
    assert bench.on.read(bench.data(new)) == "before"
    await bench.destroy(brick, new)
    assert bench.on.traces() == bench.clean


async def test_copying_again_replaces_what_an_earlier_try_left(bench: CopyBench) -> None:
    brick = bench.placed()
    await bench.create(brick)
    kept, new = bench.kept(brick), bench.placed("pvc-2")
    for text in ("first", "second"):
        bench.on.write(bench.data(brick), text)
        await bench.copy(Pair(brick, kept))
        await bench.copy(Pair(brick, new))
    await bench.backend.adopt(bench.on.host, [new])
    assert bench.on.read(bench.data(new)) == "second"
    await bench.drop(kept)
    await bench.destroy(brick, new)
    assert bench.on.traces() == bench.clean


async def test_cut_off_after_any_command_nothing_stays_held_and_all_can_be_removed(bench: CopyBench) -> None:
    brick, kept, new = bench.placed(), bench.kept(bench.placed()), bench.placed("pvc-2")
    await bench.create(brick)
    hold = Hold("hold", BOUND)
    host = bench.on.host
    for act in (
        lambda: bench.backend.copy(host, [Pair(brick, new)], hold),
        lambda: bench.backend.copy(host, [Pair(brick, kept)], hold),
        lambda: bench.backend.adopt(host, [new]),
        lambda: bench.backend.destroy_copies(host, [kept]),
    ):
        await bench.backend.destroy(host, [new])
        await bench.drop(kept)
        await bench.copy(Pair(brick, kept))
        await bench.copy(Pair(brick, new))
        for after in range(1, 9):
            bench.runner.after = after
            with pytest.raises(HostUnreachable):
                await act()
            bench.runner.after = None
            await bench.backend.release(host, [brick], hold)
            bench.on.write(bench.data(brick), f"written after {after}")
    await bench.destroy(new, brick)
    await bench.drop(kept)
    assert bench.on.traces() == bench.clean


async def test_a_hold_ends_by_itself(bench: CopyBench) -> None:
    brick, kept = bench.placed(), bench.kept(bench.placed())
    await bench.create(brick)
    hold = Hold("hold", 1.0)
    await bench.backend.copy(bench.on.host, [Pair(brick, kept)], hold)
    if isinstance(bench.on, SimulatedHost):
        bench.on.machine.pass_time()
    began = time.monotonic()
    await asyncio.to_thread(bench.on.write, bench.data(brick), "it was waited for")
    assert time.monotonic() - began < 30
    await asyncio.sleep(0.2)
    assert not await bench.backend.release(bench.on.host, [brick], hold)
    await bench.drop(kept)
    await bench.destroy(brick)
    assert bench.on.traces() == bench.clean


async def test_what_is_anothers_is_left_alone(bench: CopyBench) -> None:
    brick = bench.placed()
    await bench.create(brick)
    kept = bench.kept(brick)
    await bench.copy(Pair(brick, kept))
    file = f"{stem(kept)}.copy-of"
    ours = bench.on.read(file)
    bench.on.write(file, identity.write(replace(kept.identity, snapshot_id=naming.snapshot_id("another"))) + "\n")
    for act in (
        bench.backend.verify_copies(bench.on.host, [kept]),
        bench.backend.destroy_copies(bench.on.host, [kept]),
        bench.backend.fill(bench.on.host, [Filling(kept, bench.placed("pvc-2"))]),
        bench.backend.copy(bench.on.host, [Pair(brick, kept)], Hold("hold", BOUND)),
    ):
        with pytest.raises(Incoherent, match="says snapshot"):
            await act
    bench.on.write(bench.data(brick), "not frozen")
    bench.on.remove(file)
    with pytest.raises(Incoherent, match="without a tag"):
        await bench.drop(kept)
    bench.on.write(file, ours)
    before = bench.on.read(tag(brick)), bench.on.read(inner(brick))
    bench.on.write(tag(brick), another(brick))
    with pytest.raises(Incoherent, match="says volume 'another'"):
        await bench.backend.copy(bench.on.host, [Pair(brick, kept)], Hold("hold", BOUND))
    bench.on.write(tag(brick), before[0])
    await bench.drop(kept)
    await bench.destroy(brick)
    assert bench.on.traces() == bench.clean

"""Copies of bricks on LVM: over simulated hosts, and in the virtual machine on real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.bricks import lvmcopies, lvmpaths, lvmreport, lvmtags
from csi.bricks.identity import DeviceMark
from csi.copyports import BrickCopies, Filling, Hold, Pair
from csi.core import naming
from csi.core.command import Command, Script
from csi.core.copyidentity import CopyIdentity, PlacedCopy
from csi.core.errors import CannotCopy, HostUnreachable, Incoherent
from csi.core.model import BrickId, Copy, PlacedBrick, SnapshotId
from tests.contract.bricks.bench import INSTANCE, SIZE, grown, whole
from tests.contract.lvm.bench import LvmBench

HOLD = Hold("test", 30)


def copy_of(placed: PlacedBrick, snapshot: str = "snapshot-1", instance: str = INSTANCE) -> PlacedCopy:
    known, brick, who = naming.snapshot_id(snapshot), placed.brick, placed.identity
    copy = Copy(
        naming.copy_id(known, brick.set, brick.index),
        brick.set,
        brick.index,
        brick.host_id,
        brick.device_id,
        brick.size,
        0,
    )
    return PlacedCopy(
        CopyIdentity(
            instance=instance,
            snapshot_id=SnapshotId(known),
            snapshot_name=snapshot,
            volume_id=who.volume_id,
            volume_name=who.volume_name,
            cluster_id=who.cluster_id,
            volume_size=who.volume_size,
            spec=who.spec,
            gid=who.gid,
            copy=copy,
        ),
        placed.host,
        placed.device,
    )


async def _pool(bench: LvmBench, brick: BrickId) -> tuple[int, int, int]:
    """Size of the pool that the brick made, its metadata, and how many volumes are in it."""
    (look,) = await bench.runner.run(bench.on.host, Script((Command(("csi_lvm_look",)),)))
    for group in lvmreport.read(look.stdout).values():
        if (found := group.volumes.get(naming.thin_pool(brick))) is not None:
            inside = [volume for volume in group.volumes.values() if volume.pool == found.name]
            return found.size, found.metadata_size, len(inside)
    return 0, 0, 0


async def test_a_copy_becomes_a_brick_and_each_may_go_first(bench: LvmBench) -> None:
    assert isinstance(bench.backend, BrickCopies)
    host, source, copy = bench.on.host, bench.placed(), None
    await bench.create(source)
    bench.on.write(f"{source.brick.path}/file", "first")
    copy = copy_of(source)
    (measured,) = (await bench.backend.flush(host, [source])).taken
    copied = None
    for _ in range(2):  # what is there is replaced
        copied = await bench.backend.copy(host, [Pair(source, copy)], HOLD)
        assert copied.moment > 0
        assert await bench.backend.release(host, [source], HOLD)
    (sealed,) = await bench.backend.seal(host, [copy])
    assert copied is not None
    assert copied.taken == (sealed,)
    assert 0 < sealed <= measured + measured // 20 + (24 << 20)
    bench.on.write(f"{source.brick.path}/file", "second")
    (found,) = await bench.backend.find_copies(host, [source.device])
    assert (found.identity, found.taken) == (copy.identity, sealed)
    assert found.moment > 1600000000
    size, _, inside = await _pool(bench, source.brick.id)
    assert inside == 2
    assert SIZE < size < 2 * SIZE

    restored = bench.placed("pvc-restored")
    for _ in range(2):
        await bench.backend.fill(host, [Filling(copy, restored)])
        await bench.backend.adopt(host, [restored])
        await bench.backend.mount_at_boot(host, [restored])
    assert bench.on.read(f"{restored.brick.path}/file") == "first"
    assert await bench.inspect(restored) == (whole(restored),)
    assert (await _pool(bench, source.brick.id))[0] >= size + SIZE

    await bench.destroy(source)
    assert (await _pool(bench, source.brick.id))[2] == 2
    bench.on.reboot()
    assert bench.on.read(f"{restored.brick.path}/file") == "first"
    await bench.backend.verify_copies(host, [copy])
    await bench.backend.destroy_copies(host, [copy])
    await bench.backend.destroy_copies(host, [copy])
    assert await bench.backend.find_copies(host, [source.device]) == ()
    assert (await _pool(bench, source.brick.id))[2] == 1
    await bench.destroy(restored)
    assert bench.on.traces() == bench.clean


async def test_what_was_seen_ahead_will_do_until_something_changes(bench: LvmBench) -> None:
    host, source, copy = bench.on.host, bench.placed(), copy_of(bench.placed())
    await bench.create(source)
    group = naming.volume_group(source.device.id)
    mark = lvmtags.of_device(DeviceMark(INSTANCE, source.device.id))

    async def said(verb: str) -> str:
        (result,) = await bench.runner.run(host, Script((Command((verb, group, mark)),)))
        return result.stdout

    assert lvmpaths.names(source)[1] in await said("csi_lvm_look_ahead")
    assert await said("csi_lvm_look_back") == ""  # it did not ask
    await bench.backend.copy(host, [Pair(source, copy)], HOLD)
    assert lvmcopies.names(copy)[1] in await said("csi_lvm_look_back")
    await bench.backend.flush(host, [source])
    await bench.backend.destroy_copies(host, [copy])
    assert lvmcopies.names(copy)[1] not in await said("csi_lvm_look_back")
    await bench.destroy(source)
    assert bench.on.traces() == bench.clean


async def test_what_is_written_after_the_look_is_counted(bench: LvmBench) -> None:
    """The share of a copy is of the moment of copying: a pool must not be promised to more than it can hold."""
    host, source, copy = bench.on.host, bench.placed(), copy_of(bench.placed())
    await bench.create(source)
    (before,) = (await bench.backend.flush(host, [source])).taken
    bench.on.put(source, 192 << 20)
    (taken,) = (await bench.backend.copy(host, [Pair(source, copy)], HOLD)).taken or (0,)
    assert taken > before + (192 << 20)
    await bench.backend.destroy_copies(host, [copy])
    await bench.destroy(source)


async def test_the_pool_of_a_clone_grows_by_the_difference(bench: LvmBench) -> None:
    host, source, clone = bench.on.host, bench.placed(), bench.placed("pvc-clone")
    await bench.create(source)
    copied = await bench.backend.copy(host, [Pair(source, clone)], HOLD)
    assert copied.taken is not None
    assert copied.taken[0] >= SIZE
    await bench.backend.adopt(host, [clone])
    before = await _pool(bench, source.brick.id)
    assert before[0] == 2 * SIZE
    larger = grown(clone, 2 * SIZE)
    for _ in range(2):
        await bench.backend.grow(host, [larger])
    assert (await _pool(bench, source.brick.id))[0] == before[0] + SIZE
    assert (await bench.inspect(larger)) == (whole(larger),)
    await bench.destroy(clone, source)
    assert bench.on.traces() == bench.clean


async def test_a_copy_of_anothers_stays(bench: LvmBench) -> None:
    host, source = bench.on.host, bench.placed()
    await bench.create(source)
    theirs, ours = copy_of(source, instance="another"), copy_of(source)
    await bench.backend.copy(host, [Pair(source, theirs)], HOLD)
    before = bench.on.traces()
    for work in (
        bench.backend.copy(host, [Pair(source, ours)], HOLD),
        bench.backend.verify_copies(host, [ours]),
        bench.backend.destroy_copies(host, [ours]),
        bench.backend.fill(host, [Filling(ours, bench.placed("pvc-restored"))]),
    ):
        with pytest.raises(Incoherent, match="instance 'another'"):
            await work
    assert bench.on.traces() == before
    await bench.backend.destroy_copies(host, [theirs])
    await bench.destroy(source)
    assert bench.on.traces() == bench.clean


async def test_one_that_became_anothers_after_the_look_is_not_replaced(bench: LvmBench) -> None:
    host, source, copy = bench.on.host, bench.placed(), copy_of(bench.placed())
    await bench.create(source)
    await bench.backend.copy(host, [Pair(source, copy)], HOLD)
    await bench.backend.flush(host, [source])
    name = "/".join(lvmcopies.names(copy))
    bench.on.retag(name, "somebody")
    before = bench.on.traces()
    with pytest.raises(Incoherent, match=name):
        await bench.backend.copy(host, [Pair(source, copy)], HOLD)
    assert bench.on.traces() == before
    bench.on.retag(name, lvmtags.of_copy(copy.identity))
    await bench.backend.destroy_copies(host, [copy])
    await bench.destroy(source)
    assert bench.on.traces() == bench.clean


async def test_what_is_not_there_cannot_be_copied(bench: LvmBench) -> None:
    source = bench.placed()
    with pytest.raises(CannotCopy):
        await bench.backend.copy(bench.on.host, [Pair(source, copy_of(source))], HOLD)
    assert bench.on.traces() == bench.clean


@pytest.mark.parametrize("bench", ["simulated"], indirect=True)
async def test_what_was_interrupted_anywhere_goes_on(bench: LvmBench) -> None:
    host, source, restored = bench.on.host, bench.placed(), bench.placed("pvc-restored")
    copy = copy_of(source)

    async def work() -> None:
        await bench.backend.copy(host, [Pair(source, copy)], HOLD)
        await bench.backend.fill(host, [Filling(copy, restored)])
        await bench.backend.adopt(host, [restored])

    for after in range(9):
        await bench.create(source)
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await work()
        bench.runner.after = None
        await work()
        assert bench.on.exists(restored.brick.path)
        assert lvmcopies.names(copy)[1] in str(sorted(bench.on.traces()))
        await bench.destroy(source, restored)
        await bench.backend.destroy_copies(host, [copy])
        assert bench.on.traces() == bench.clean, f"after {after} commands"


async def test_a_brick_made_anew_beside_its_old_copies_has_room(bench: LvmBench) -> None:
    host, source = bench.on.host, bench.placed()
    await bench.create(source)
    copy = copy_of(source)
    await bench.backend.copy(host, [Pair(source, copy)], HOLD)
    await bench.destroy(source)
    again = replace(source, root_mode=0o2775)
    await bench.create(again)
    assert lvmpaths.names(again)[1] == lvmpaths.names(source)[1]
    size, _, inside = await _pool(bench, source.brick.id)
    assert inside == 2
    assert size > SIZE
    await bench.destroy(again)
    await bench.backend.destroy_copies(host, [copy])
    assert bench.on.traces() == bench.clean

"""What every BrickBackend promises of devices, by LVM: which it takes, whose they are, how they are given back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.bricks import lvmtags
from csi.bricks.identity import DeviceMark
from csi.bricks.lvm import LvmBackend
from csi.core import naming
from csi.core.errors import InUse, InvalidRequest, Unavailable
from csi.core.model import Backend, DeviceId
from tests.contract.bricks import test_devices
from tests.contract.bricks.bench import INSTANCE, whole
from tests.contract.lvm.bench import LvmBench, pool

# It says nothing of how a backend marks its devices.
test_a_claim_can_be_repeated = test_devices.test_a_claim_can_be_repeated


async def test_the_total_of_a_device_does_not_change_with_the_claim_or_bricks(bench: LvmBench) -> None:
    device = bench.devices[0]
    await bench.backend.give_back(bench.on.host, device)
    blank = await bench.backend.check(bench.on.host, device.path)
    await bench.backend.claim(bench.on.host, device, INSTANCE)
    placed = bench.placed()
    await bench.create(placed)
    assert await bench.backend.check(bench.on.host, device.path) == blank
    with pytest.raises(Unavailable, match="still in use"):
        await bench.backend.give_back(bench.on.host, device)
    await bench.destroy(placed)


async def test_a_device_is_given_back_only_if_it_is_ours_and_empty(bench: LvmBench) -> None:
    device = bench.devices[0]
    group = naming.volume_group(device.id)
    bench.on.make_volume(group, "tp_x", "x")
    with pytest.raises(Unavailable, match=r"still in use.*x"):
        await bench.backend.give_back(bench.on.host, device)
    bench.on.remove_volume(f"{group}/tp_x")
    other = LvmBackend(bench.runner, "another", bench.on.fstab)
    with pytest.raises(Unavailable, match=f"carries the mark of instance '{INSTANCE}'"):
        await other.give_back(bench.on.host, device)
    for _ in range(2):  # once more is fine
        await bench.backend.give_back(bench.on.host, device)
    assert (await bench.backend.check(bench.on.host, device.path)).backend is Backend.LVM
    await bench.backend.claim(bench.on.host, device, INSTANCE)
    # What somebody else has by now is left to him.
    strange = replace(bench.devices[1], id=DeviceId("e" * 32))
    await bench.backend.give_back(bench.on.host, strange)
    await bench.backend.verify(bench.on.host, [bench.placed(device=1)])


async def test_what_cannot_carry_bricks_is_refused_with_the_reason(bench: LvmBench) -> None:
    for path, reason in (
        ("/dev/nothing", "no such device"),
        ("/etc", "block device below"),
        ("/dev/loop-control", "not a block"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            await bench.backend.check(bench.on.host, path)


async def test_a_device_has_one_owner(bench: LvmBench) -> None:
    first = bench.devices[0]
    with pytest.raises(InUse, match=INSTANCE):
        await bench.backend.claim(bench.on.host, first, "somebody else")
    other = LvmBackend(bench.runner, "another", bench.on.fstab)
    for destroy in (False, True):
        with pytest.raises(InvalidRequest, match=f"{INSTANCE}.*never wiped"):
            await other.check(bench.on.host, first.path, destroy=destroy)
    assert bench.on.traces() == bench.clean


@pytest.mark.parametrize("mark", [None, DeviceMark("another", DeviceId("d" * 32))])
async def test_nothing_is_done_on_a_device_without_our_mark(bench: LvmBench, mark: DeviceMark | None) -> None:
    placed = bench.placed()
    bench.on.retag(naming.volume_group(placed.device.id), "" if mark is None else lvmtags.of_device(mark))
    before = bench.on.traces()
    for call in (
        bench.backend.create(bench.on.host, [placed]),
        bench.destroy(placed),
        bench.inspect(placed),
        bench.backend.find(bench.on.host, bench.devices),
    ):
        with pytest.raises(Unavailable, match="no tag of ours" if mark is None else "another"):
            await call
    assert bench.on.traces() == before


async def test_tags_of_an_administrator_do_no_harm(bench: LvmBench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    for name, tags in (
        (naming.volume_group(placed.device.id), lvmtags.of_device(DeviceMark(INSTANCE, placed.device.id))),
        (pool(placed), lvmtags.of_brick(placed.identity)),
    ):
        bench.on.retag(name, f"{tags},backup,csi.f")
    await bench.create(placed)
    assert await bench.inspect(placed) == (whole(placed),)
    await bench.backend.claim(bench.on.host, placed.device, INSTANCE)
    await bench.destroy(placed)
    assert bench.on.traces() == bench.clean


async def test_a_volume_group_that_has_gone_is_named(bench: LvmBench) -> None:
    await bench.backend.give_back(bench.on.host, bench.devices[0])
    with pytest.raises(Unavailable, match=f"{bench.on.host.manage} has no volume group vg_{bench.devices[0].id}"):
        await bench.create(bench.placed())
    await bench.backend.claim(bench.on.host, bench.devices[0], INSTANCE)

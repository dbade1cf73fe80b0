"""What every BrickBackend promises of devices: which it takes, and that each has one owner."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from csi.bricks import identity
from csi.bricks.file import FileBackend
from csi.bricks.identity import DEVICE_MARK, DeviceMark
from csi.core.errors import InUse, InvalidRequest, Unavailable
from csi.core.model import Backend, DeviceId
from tests.contract.bricks.bench import INSTANCE, SIZE, Bench


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

"""What is wrong with a host's disks is told with the host, the disk and the remedy, and nothing is done then."""

from __future__ import annotations

import pytest

from csi.bricks.lvm import LvmBackend
from csi.core.errors import InUse, InvalidRequest, Unavailable
from tests.lab import Lab
from tests.lvm.bricks import INSTANCE, placed_on

pytestmark = pytest.mark.lab


async def test_a_disk_that_holds_something_is_wiped_on_request_only(clean_lab: Lab, backend: LvmBackend) -> None:
    machine = clean_lab.hosts[0]
    path = machine.blocks[1]
    one = placed_on(machine, path)
    blank = await backend.check(one.host, path)
    clean_lab.run(machine, ["mkfs.xfs", "-q", "-K", path])
    with pytest.raises(InvalidRequest, match=rf"{path}.*holds xfs.*wipefs {path}.*destroydata"):
        await backend.check(one.host, path)
    with pytest.raises(InUse, match=r"xfs signature.*destroydata"):
        await backend.claim(one.host, one.device, INSTANCE)
    assert await backend.check(one.host, path, destroy=True) == blank
    clean_lab.run(machine, ["mount", path, "/mnt"])
    with pytest.raises(InUse, match=f"{path} of host {machine.address} is in use.*unmount"):
        await backend.claim(one.host, one.device, INSTANCE, destroy=True)
    clean_lab.run(machine, ["umount", "/mnt"])
    await backend.claim(one.host, one.device, INSTANCE, destroy=True)
    assert await backend.check(one.host, path) == blank
    await backend.create(one.host, [one])
    # Once more, with data on it by now: it is ours already.
    await backend.claim(one.host, one.device, INSTANCE, destroy=True)
    assert (await backend.inspect(one.host, [one]))[0].mounted
    await backend.destroy(one.host, [one])


async def test_a_volume_group_that_lacks_a_disk_is_left_alone(clean_lab: Lab, backend: LvmBackend) -> None:
    machine = clean_lab.hosts[0]
    one = placed_on(machine, machine.blocks[0])
    await backend.claim(one.host, one.device, INSTANCE)
    group = f"vg_{one.device.id}"
    clean_lab.run(machine, ["vgextend", "-qq", group, machine.blocks[1]])
    clean_lab.run(machine, ["wipefs", "-q", "-a", "-f", machine.blocks[1]])
    for call in (backend.create(one.host, [one]), backend.destroy(one.host, [one]), backend.inspect(one.host, [one])):
        with pytest.raises(Unavailable, match=f"host {machine.address}.*lacks a disk.*{group} is missing PV"):
            await call
    clean_lab.run(machine, ["vgreduce", "-qq", "--removemissing", group])
    await backend.create(one.host, [one])
    await backend.destroy(one.host, [one])


async def test_a_host_that_cannot_write_is_named(clean_lab: Lab, backend: LvmBackend) -> None:
    machine = clean_lab.hosts[0]
    one = placed_on(machine, machine.blocks[0])
    await backend.claim(one.host, one.device, INSTANCE)
    clean_lab.run(machine, ["mount", "-o", "remount,ro", "/var/lib"])
    try:
        with pytest.raises(Unavailable, match=f"host {machine.address}.*has become read-only"):
            await backend.create(one.host, [one])
    finally:
        clean_lab.run(machine, ["mount", "-o", "remount,rw", "/var/lib"])
    await backend.destroy(one.host, [one])
    assert not clean_lab.run(machine, ["lvs", "--noheadings"]).stdout.strip()

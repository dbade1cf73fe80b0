"""The ``lvm`` backend against Heketi's command lines: names, sizes, options; and its tags."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.bricks import lvmerrors, lvmpaths, lvmreport, lvmtags
from csi.bricks.identity import DeviceMark
from csi.bricks.lvm import LvmBackend
from csi.bricks.lvmcopies import LvmCopies
from csi.copyports import BrickCopies
from csi.core import naming, sizes
from csi.core.command import Command, Script
from csi.core.errors import CommandFailed, InvalidRequest, Unavailable
from csi.core.model import (
    Backend,
    Brick,
    BrickId,
    BrickIdentity,
    BrickRole,
    ClusterId,
    Device,
    DeviceId,
    Gid,
    Host,
    HostId,
    PlacedBrick,
    VolumeId,
    VolumeSpec,
)
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World

DEVICE = DeviceId("d" * 32)
BRICK = BrickId("b" * 32)
HOST = Host(HostId("a" * 32), ClusterId("c" * 32), "h1", "h1", 1)
GIB = 1 << 30


def placed(
    size: int = GIB, snap_factor: float = 1.0, role: BrickRole = BrickRole.DATA, name: str = "pvc"
) -> PlacedBrick:
    brick = Brick(BRICK, 0, 2, HOST.id, DEVICE, size, size, naming.brick_directory(DEVICE, BRICK, Backend.LVM), role)
    spec = VolumeSpec(snap_factor=snap_factor)
    who = BrickIdentity("lab", VolumeId("f" * 32), name, "vol_x", HOST.cluster_id, size, spec, Gid(2000), brick)
    return PlacedBrick(who, HOST, Device(DEVICE, HOST.id, "/dev/vdb", Backend.LVM, 100 * GIB))


def test_names_and_paths_are_heketis() -> None:
    one = placed()
    assert lvmpaths.names(one) == (f"vg_{DEVICE}", f"brick_{BRICK}", f"tp_{BRICK}")
    assert lvmpaths.block_device(one) == f"/dev/mapper/vg_{DEVICE}-brick_{BRICK}"
    assert lvmpaths.mount_point(one) == f"/var/lib/heketi/mounts/vg_{DEVICE}/brick_{BRICK}"
    assert one.brick.path == f"/var/lib/heketi/mounts/vg_{DEVICE}/brick_{BRICK}/brick"
    assert lvmpaths.fstab_line(one) == (
        f"/dev/mapper/vg_{DEVICE}-brick_{BRICK} /var/lib/heketi/mounts/vg_{DEVICE}/brick_{BRICK} xfs "
        "rw,inode64,noatime,nouuid 1 2"
    )


@pytest.mark.parametrize(
    ("size", "factor", "metadata", "data"),
    [
        (GIB, 1.0, 8192, 1 << 20),  # 5242.9 KiB, in whole extents of 4 MiB
        (100 * GIB, 1.0, 524288, 100 << 20),
        (100 * GIB, 1.5, 786432, 150 << 20),
        (4096 * GIB, 1.0, 16 << 20, 4096 << 20),  # at most 16 GiB
    ],
)
def test_sizes_are_heketis(size: int, factor: float, metadata: int, data: int) -> None:
    assert lvmpaths.kibibytes(placed(size, factor)) == (str(metadata), str(data), str(size >> 10))
    assert sizes.footprint(Backend.LVM, size, factor) == (metadata + data) << 10


def test_file_systems_are_made_as_heketi_does() -> None:
    assert lvmpaths.format_options(placed()) == ("-i", "size=512", "-n", "size=8192")
    assert lvmpaths.format_options(placed(role=BrickRole.ARBITER)) == ("-i", "maxpct=100", "-n", "size=8192")


# --- tags -------------------------------------------------------------------------------------


@given(st.text(max_size=2000))
def test_tags_hold_the_whole_identity_whatever_it_is(name: str) -> None:
    one = replace(placed().identity, volume_name=name)
    tags = lvmtags.of_brick(one)
    assert lvmtags.read_brick(tags) == one
    assert tags == ",".join(sorted(tags.split(",")))
    for tag in tags.split(","):
        assert len(tag) < 1024
        assert set(tag) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-/=!:&#")


@pytest.mark.parametrize("tags", ["", "somebody", "csi.identity.00=", "csi.identity.00=!", "csi.identity.00=AAAA"])
def test_what_is_no_identity_is_none(tags: str) -> None:
    assert lvmtags.read_brick(tags) is None
    assert lvmtags.read_mark(tags) is None


@given(st.text(max_size=60))
def test_marks_are_read_as_they_were_written(instance: str) -> None:
    mark = DeviceMark(instance, DEVICE)
    assert lvmtags.read_mark(lvmtags.of_device(mark)) == mark


# --- reports ----------------------------------------------------------------------------------

_REPORT = """\
  vg_a|csi.device=a,csi.instance=lab|0|2527|2267

  /dev/vdb
  vg_a|brick_1|tp_1||1073741824|active|3.36||
  vg_a|snap|tp_1|own|1073741824||||
  vg_a|tp_1||of-pool|1073741824|active|3.36|10.38|8388608
  vg_b||1|10|10
"""


def test_a_report_is_read() -> None:
    groups = lvmreport.read(_REPORT)
    assert set(groups) == {"vg_a", "vg_b"}
    first = groups["vg_a"]
    assert (first.extents, first.free, groups["vg_b"].missing) == (2527, 2267, 1)
    brick, snap, pool = first.volumes["brick_1"], first.volumes["snap"], first.volumes["tp_1"]
    assert (first.tags_of(brick), first.tags_of(snap), first.tags_of(pool)) == ("of-pool", "own", "of-pool")
    assert (pool.data_percent, pool.metadata_percent, pool.metadata_size) == (3.36, 10.38, 8 << 20)
    assert (snap.active, snap.data_percent) == (False, None)


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "status", "stderr", "reason"),
    [
        (("csi_lvm_look", "vg_x", "m"), 71, "vg_x\n", "h1 has no volume group vg_x"),
        (("csi_lvm_look", "vg_x", "m"), 72, "csi.device=d,csi.instance=o\n", "mark of instance 'o', device d"),
        (("csi_lvm_look", "vg_x", "m"), 77, "WARNING: VG vg_x is missing PV abc", "lacks a disk.*missing PV abc"),
        (("csi_lvm_make", "vg_x"), 5, "insufficient free space (3 extents): 5 required.", "vg_x has no room"),
        (("mkdir", "-p"), 1, "mkdir: cannot create '/x': Read-only file system", "h1: a file system .*read-only"),
    ],
)
def test_errors_name_the_host_and_the_remedy(argv: tuple[str, ...], status: int, stderr: str, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        lvmerrors.explain(HOST, CommandFailed("h1", argv, status, stderr))


async def test_a_disk_that_holds_something_is_wiped_on_request_only() -> None:
    world = World()
    machine = world.add("h1")
    disk = machine.add_disk("/dev/vdb", 20 * GIB)
    runner = SimulatedRunner(world)
    backend = LvmBackend(runner, "lab")
    device = Device(naming.device_id(HOST.id, "/dev/vdb"), HOST.id, "/dev/vdb", Backend.LVM, 0)
    assert (await backend.check(HOST, "/dev/vdb")).total == 21227372544
    await _format(runner)
    with pytest.raises(InvalidRequest, match=r"holds xfs.*wipefs /dev/vdb.*destroydata"):
        await backend.check(HOST, "/dev/vdb")
    with pytest.raises(Exception, match="destroydata"):
        await backend.claim(HOST, device, "lab")
    assert disk.filesystem is not None
    assert (await backend.check(HOST, "/dev/vdb", destroy=True)).total == 21227372544
    await backend.claim(HOST, device, "lab", destroy=True)
    assert disk.filesystem is None
    # Ours by now: the same request again wipes nothing.
    await backend.claim(HOST, device, "lab", destroy=True)
    assert (await backend.check(HOST, "/dev/vdb", destroy=True)).total == 21227372544


async def _format(runner: SimulatedRunner) -> None:
    await runner.run(HOST, Script((Command(("mkfs.xfs", "/dev/vdb")),)))


def test_bricks_on_lvm_can_be_copied() -> None:
    """The service asks for the port at run time: without this a method more there would end copies on LVM silently."""
    assert isinstance(LvmCopies(SimulatedRunner(World()), "lab"), BrickCopies)

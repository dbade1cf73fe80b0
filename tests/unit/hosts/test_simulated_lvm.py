"""The LVM of simulated hosts answers as the real one did, command by command (``tests/recorded/lvm``)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from csi.core import naming
from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed
from csi.core.model import ClusterId, Host
from csi.hosts.simulated.lvm_programs import LVM_PROGRAMS
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World

RECORDED = Path(__file__).parents[2] / "recorded" / "lvm"
TRANSCRIPTS = sorted(path.stem for path in RECORDED.glob("*.txt"))
GIB = 1 << 30
DISKS = (2 * GIB, GIB, GIB, 400 << 20)  # as in record.sh
EVERY_STATUS = tuple(range(256))
HOST = Host(naming.host_id("h1"), ClusterId("c" * 32), "h1", "h1", 1)

# Depends on the device, the file system or the day.
LVM_UUID = re.compile(r"\b\w{6}(-\w{4}){5}-\w{6}\b")
PERCENT = re.compile(r'"(data|metadata)_percent":"\d+\.\d\d"')
REMARKS = ("mkfs.xfs: small data volume",)
# Only how they end is compared.
SILENT = ("mkdir", "test", "reboot")


@dataclass
class Step:
    line: int
    argv: tuple[str, ...]
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    status: int = -1


def steps(name: str) -> Iterator[Step]:
    step = None
    for number, line in enumerate((RECORDED / f"{name}.txt").read_text().splitlines(), 1):
        mark, text = line[:1], line[2:]
        if mark == "$":
            step = Step(number, tuple(shlex.split(text)))
        elif step is not None and mark == ">":
            step.stdout.append(text)
        elif step is not None and mark == "!":
            step.stderr.append(text)
        elif step is not None and mark == "=":
            step.status = int(text)
            yield step


class Bench:
    """A simulated host with the disks of the recording."""

    def __init__(self) -> None:
        self.world = World()
        self.machine: Machine = self.world.add("h1")
        for number, size in enumerate(DISKS):
            self.machine.add_disk(f"/dev/loop{number}", size)
        self.machine.make_directory("/mnt")

    async def run(self, *argv: str) -> Result:
        script = Script((Command(argv, ok=EVERY_STATUS),))
        return (await SimulatedRunner(self.world).run(HOST, script))[0]

    async def brick(self, name: str = "brick_1") -> Bench:
        """A volume of 512 MiB in a pool as large, with XFS, mounted on /mnt/NAME, now and after a reboot."""
        point, device = f"/mnt/{name}", f"/dev/mapper/vg--a-{name}"
        options = "rw,inode64,noatime,nouuid"
        for line in (
            "lvm pvcreate -qq /dev/loop0",
            "lvm vgcreate -qq vg-a /dev/loop0",
            "lvm lvcreate -qq --poolmetadatasize 8M --chunksize 256K --size 512M --thin vg-a/tp_1 --virtualsize 512M "
            f"--name {name}",
            f"mkfs.xfs -i size=512 -n size=8192 {device}",
            f"mkdir {point}",
            f"mount -o {options} {device} {point}",
        ):
            await self.done(line)
        fstab = self.machine.fstab
        self.machine.write(fstab, self.machine.read(fstab) + f"{device} {point} xfs {options} 1 2\n")
        return self

    async def done(self, line: str) -> str:
        result = await self.run(*shlex.split(line))
        assert result.status == 0, f"{line}: {result.stderr}"
        return result.stdout

    async def refused(self, line: str) -> str:
        result = await self.run(*shlex.split(line))
        assert result.status != 0, line
        return result.stderr

    async def percent(self, name: str) -> float:
        return float(await self.done(f"lvm lvs --noheadings -o data_percent vg-a/{name}"))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def plain(lines: list[str]) -> list[str]:
    """Without what depends on the machine, and without the width of columns. A row that comes twice counts once.

    LVM prints a row for each segment of a volume; the spare may lie in two places.
    """
    kept: list[str] = []
    for line in lines:
        text = PERCENT.sub(r'"\1_percent":"N"', LVM_UUID.sub("UUID", " ".join(line.split()))).rstrip(",")
        if text.startswith(REMARKS) or (kept and kept[-1] == text and text.startswith("{")):
            continue
        kept.append(text)
    return kept


# --- the recordings ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_every_recorded_command_ends_as_it_did_and_says_what_it_said(bench: Bench, name: str) -> None:
    differences = []
    for step in steps(name):
        if step.argv == ("reboot",):
            bench.machine.reboot()
            continue
        result = await bench.run(*step.argv)
        said, wanted = plain(result.stderr.splitlines()), plain(step.stderr)
        printed, expected = plain(result.stdout.splitlines()), plain(step.stdout)
        if step.argv[0] in SILENT:
            said = wanted
        if step.argv[0] == "mkfs.xfs":
            printed = expected  # the geometry
        if (result.status, said, printed) != (step.status, wanted, expected):
            differences.append((step, result))
    assert differences == []


def test_all_uses_are_recorded() -> None:
    recorded = {word for name in TRANSCRIPTS for step in steps(name) for word in step.argv[:2]}
    assert set(LVM_PROGRAMS) - {f"/usr/sbin/{word}" for word in recorded} - recorded == set()
    assert len(TRANSCRIPTS) == 5


# --- what a transcript cannot show ------------------------------------------------------------


async def test_programs_are_called_by_any_of_their_names(bench: Bench) -> None:
    await bench.done("/usr/sbin/lvm pvcreate -qq /dev/loop0")
    await bench.done("/usr/sbin/vgcreate -qq vg_a /dev/loop0")
    reports = [await bench.done(f"{lvm}vgs --reportformat json") for lvm in ("lvm ", "/usr/sbin/lvm ", "/usr/sbin/")]
    assert reports == [await bench.done("vgs --reportformat=json")] * 3
    assert json.loads(reports[0])["report"][0]["vg"][0]["vg_name"] == "vg_a"


@pytest.mark.parametrize(
    "line",
    [
        "lvm",
        "lvm fullreport",
        "lvm pvs",
        "lvm pvs --noheadings -o pv_colour /dev/loop0",
        "lvm lvs --noheadings --units x",
        "lvm vgdisplay vg_a",
        "lvm lvcreate --size 4M --name plain vg_a",
        "lvm lvcreate --mirrors 1 vg_a",
        "lvm lvcreate --thin vg_a/tp_1 --size all --virtualsize 4M --name brick_1",
        "lvm vgcreate --physicalextentsize 8M vg_b /dev/loop1",
        "mkfs.xfs --help",
        "mount -t ext4 /dev/loop1 /mnt",
        "wipefs --all /dev/loop0",
    ],
)
async def test_an_unknown_use_fails_loudly(bench: Bench, line: str) -> None:
    await bench.done("lvm pvcreate -qq /dev/loop0")
    await bench.done("lvm vgcreate -qq vg_a /dev/loop0")
    assert "does not know this use" in await bench.refused(line)


async def test_a_failure_is_one_of_the_runner(bench: Bench) -> None:
    with pytest.raises(CommandFailed, match='Volume group "vg_a" not found') as caught:
        await SimulatedRunner(bench.world).run(HOST, Script((Command(("lvm", "vgremove", "vg_a")),)))
    assert caught.value.status == 5


async def test_a_reboot_brings_volumes_and_their_mounts_back(bench: Bench) -> None:
    await bench.brick()
    await bench.done("mkdir /mnt/brick_1/brick")
    await bench.done("lvm lvcreate -qq -s --name snap_1 vg-a/brick_1")
    await bench.done("lvm lvchange -K -ay vg-a/snap_1")
    before = await bench.done("lvm pvs --reportformat json -o +pv_uuid")
    await bench.done("test -b /dev/vg-a/snap_1")
    bench.machine.reboot()
    await bench.done("test -d /mnt/brick_1/brick")
    assert bench.machine.mounts["/mnt/brick_1"].source == "/dev/mapper/vg--a-brick_1"
    assert (await bench.run("test", "-b", "/dev/vg-a/snap_1")).status == 1
    assert await bench.done("lvm pvs --reportformat json -o +pv_uuid") == before
    assert "in use" in await bench.refused("lvm lvremove -f vg-a/brick_1")


async def test_a_lost_volume_stops_the_boot(bench: Bench) -> None:
    await bench.brick()
    await bench.done("umount /mnt/brick_1")
    await bench.done("lvm lvremove -f vg-a/brick_1")
    with pytest.raises(OSError, match="No such file"):
        bench.machine.reboot()


async def test_a_brick_process_keeps_the_volume(bench: Bench) -> None:
    await bench.brick()
    process = bench.machine.spawn("glusterfsd", ("glusterfsd",), "/mnt/brick_1")
    assert await bench.refused("umount /mnt/brick_1") == "umount: /mnt/brick_1: target is busy.\n"
    bench.machine.kill(process.pid)
    await bench.done("umount /mnt/brick_1")
    await bench.done("lvm lvremove -f vg-a/brick_1")


async def test_the_mounts_are_listed(bench: Bench) -> None:
    await bench.brick()
    listed = await bench.done("mount")
    assert listed == "/dev/mapper/vg--a-brick_1 on /mnt/brick_1 type xfs (rw,inode64,noatime,nouuid)\n"


async def test_a_twin_is_mounted_only_without_its_uuid(bench: Bench) -> None:
    """XFS looks for twins only among the file systems that were mounted without ``nouuid``."""
    await bench.brick()
    await bench.done("umount /mnt/brick_1")
    await bench.done("mount -o rw /dev/vg-a/brick_1 /mnt/brick_1")
    await bench.done("lvm lvcreate -qq -s -kn --name clone_1 vg-a/brick_1")
    await bench.done("mkdir /mnt/clone_1")
    assert "wrong fs type" in await bench.refused("mount -o rw /dev/vg-a/clone_1 /mnt/clone_1")
    await bench.done("mount -o rw,nouuid /dev/vg-a/clone_1 /mnt/clone_1")


async def test_a_snapshot_has_its_own_files_and_attributes(bench: Bench) -> None:
    await bench.brick()
    machine = bench.machine
    machine.write("/mnt/brick_1/file", "old")
    machine.xattrs("/mnt/brick_1")["user.a"] = b"old"
    await bench.done("lvm lvcreate -qq -s -kn --name clone_1 vg-a/brick_1")
    await bench.done("mkdir /mnt/clone_1")
    await bench.done("mount -o rw,nouuid /dev/vg-a/clone_1 /mnt/clone_1")
    machine.write("/mnt/brick_1/file", "new")
    machine.xattrs("/mnt/brick_1")["user.a"] = b"new"
    assert machine.read("/mnt/clone_1/file") == "old"
    assert machine.xattrs("/mnt/clone_1")["user.a"] == b"old"


async def test_data_is_counted_once_and_comes_back_with_the_last_holder(bench: Bench) -> None:
    await bench.brick()
    bench.machine.write("/mnt/brick_1/file", "x" * (64 << 20))
    assert await bench.percent("tp_1") == 25.0
    await bench.done("lvm lvcreate -qq -s -kn --name clone_1 vg-a/brick_1")
    assert [await bench.percent(name) for name in ("brick_1", "clone_1", "tp_1")] == [25.0] * 3
    await bench.done("umount /mnt/brick_1")
    await bench.done("lvm lvremove -f vg-a/brick_1")
    assert await bench.percent("tp_1") == 25.0, "the clone still holds the data"
    await bench.done("lvm lvremove -f vg-a/clone_1")
    assert await bench.percent("tp_1") == 0.0


async def test_a_full_pool_is_full_for_all_its_volumes(bench: Bench) -> None:
    await bench.brick()
    await bench.done("lvm lvextend -qq --size 1G vg-a/brick_1")
    await bench.done("lvm lvcreate -qq --thin vg-a/tp_1 --virtualsize 512M --name brick_2")
    await bench.done("mkfs.xfs -q /dev/vg-a/brick_2")
    await bench.done("mkdir /mnt/brick_2")
    await bench.done("mount /dev/vg-a/brick_2 /mnt/brick_2")
    bench.machine.write("/mnt/brick_1/file", "x" * (380 << 20))
    with pytest.raises(OSError, match="No space"):
        bench.machine.write("/mnt/brick_2/file", "x" * (8 << 20))
    await bench.done("lvm lvextend -qq --size +64M vg-a/tp_1")
    bench.machine.write("/mnt/brick_2/file", "x" * (8 << 20))

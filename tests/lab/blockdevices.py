"""Block devices of a laboratory host: loop devices over sparse files, which the host alone sees as /dev/vdb and on.

Such a host has a /dev of its own. LVM there looks at those devices only: the kernel shows it all loop devices, and
the volume groups of the others with them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from tests.lab.system import LabError, call, environment, loops

_NODES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "loop-control")
_LOOPS = 64  # as `mount -o loop` finds them
_DM_MAJOR_FILE = Path("/sys/class/misc/device-mapper/dev")

# Nobody makes device nodes for LVM here, so it must not wait for them; and there is no dmeventd.
_LVM = """\
devices {
    global_filter = [ "a|^/dev/vd[b-z]$|", "r|.*|" ]
    obtain_device_list_from_udev = 0
}
activation {
    udev_sync = 0
    udev_rules = 0
    monitoring = 0
}
"""


def missing() -> str | None:
    """Why there can't be any, if so."""
    if shutil.which("lvm", path=environment()["PATH"]) is None:
        return "lvm is not installed (tools/install.sh apt-lvm)"
    if not _DM_MAJOR_FILE.exists():
        return "this kernel has no device-mapper: python -m tests.lab vm -- COMMAND"
    return None


def make(disk: Path, blocks: Sequence[str], size: str) -> None:
    """The images, a /dev and LVM's settings. Nothing if the host has no block devices."""
    if not blocks:
        return
    if reason := missing():
        raise LabError(f"block devices for LVM: {reason}")
    for block in blocks:
        image = _image(disk, block)
        image.touch()
        os.truncate(image, _bytes(size))
    nodes = disk / "dev"
    for directory in ("pts", "shm", "mapper"):
        (nodes / directory).mkdir(parents=True)
    for name in _NODES:
        found = os.stat(f"/dev/{name}")
        os.mknod(nodes / name, stat.S_IFCHR | 0o600, found.st_rdev)
        os.chmod(nodes / name, stat.S_IMODE(found.st_mode))
    for number in range(_LOOPS):
        os.mknod(nodes / f"loop{number}", stat.S_IFBLK | 0o660, os.makedev(7, number))
    (nodes / "ptmx").symlink_to("pts/ptmx")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (nodes / name).symlink_to(target if name == "fd" else f"/proc/self/{target}")
    (disk / "etc/lvm").mkdir()
    (disk / "etc/lvm/lvmlocal.conf").write_text(_LVM)


def attach(disk: Path, blocks: Sequence[str]) -> None:
    """At each boot: the nodes of what was active are gone, the devices are there."""
    if not blocks:
        return
    nodes = disk / "dev"
    for entry in nodes.iterdir():
        if entry.name.startswith(("vg_", "dm-", "vd")):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.rmtree(nodes / "mapper")
    (nodes / "mapper").mkdir()
    major, minor = map(int, _DM_MAJOR_FILE.read_text().split(":"))
    os.mknod(nodes / "mapper/control", stat.S_IFCHR | 0o600, os.makedev(major, minor))
    for block in blocks:
        loop = call("losetup", "--find", "--show", str(_image(disk, block))).strip()
        os.mknod(nodes / Path(block).name, stat.S_IFBLK | 0o660, os.stat(loop).st_rdev)


def detach(disk: Path) -> None:
    """Let go of what LVM made of them, and of them."""
    for loop in _loops_of(disk):
        for name in mapped(loop):
            call("dmsetup", "remove", "--force", "--noudevsync", name, check=False)
        call("losetup", "--detach", f"/dev/{loop}", check=False)


def _loops_of(disk: Path) -> list[str]:
    return [Path(loop.name).name for loop in loops() if loop.backing_file.startswith(f"{disk}/vd")]


def mapped_of(disk: Path) -> list[str]:
    """What is mapped onto any of the host's block devices."""
    if not (disk / "dev").exists():
        return []
    return [name for loop in _loops_of(disk) for name in mapped(loop)]


def mapped(device: str) -> list[str]:
    """The names of the mapped devices that stand on it, directly or not, each after all that stand on it."""
    found: list[str] = []

    def visit(below: str) -> None:
        for holder in sorted(os.listdir(f"/sys/block/{below}/holders")):
            visit(holder)
            name = Path(f"/sys/block/{holder}/dm/name").read_text().strip()
            if name not in found:
                found.append(name)

    with contextlib.suppress(FileNotFoundError):
        visit(device)
    return found


def _image(disk: Path, block: str) -> Path:
    return disk / f"{Path(block).name}.img"


def _bytes(size: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    return int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size)

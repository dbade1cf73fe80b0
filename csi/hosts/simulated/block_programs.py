"""Programs for block devices of simulated hosts: ``mkfs.xfs``, ``mount``, ``umount``, ``wipefs``.

Texts and statuses were recorded from util-linux 2.38 and xfsprogs 6.1 (``tests/recorded/lvm``). The geometry that
mkfs.xfs prints is left out, and so is the screenful of options that it prints after some errors.
"""

from __future__ import annotations

import errno
import getopt
import uuid
from collections.abc import Sequence

from csi.core.command import Result
from csi.hosts.simulated.filesystem import FileSystem
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import DONE, Program, failed, unknown

_SMALLEST_XFS = 300 << 20
_LOG = 64 << 20  # what XFS keeps for itself of a device of usual size, nearly all of it its log
_MOUNT_FAILED = 32


def _options(argv: Sequence[str], short: str, long: Sequence[str] = ()) -> tuple[dict[str, str], list[str]] | None:
    """The options, each without its hyphens, and the operands; None for a use that is not known here."""
    try:
        found, operands = getopt.gnu_getopt(list(argv[1:]), short, list(long))
    except getopt.GetoptError:
        return None
    return {name.lstrip("-"): value for name, value in found}, operands


def _mkfs_xfs(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    parsed = _options(argv, "i:n:d:m:l:L:s:b:fqK")
    if parsed is None or len(parsed[1]) != 1:
        return unknown(argv)
    options, (path,) = parsed
    device = machine.blocks.get(path)
    if device is None:
        return failed(1, f"Error accessing specified device {path}: No such file or directory\nUsage: mkfs.xfs")
    if machine.is_mounted(device):
        return failed(1, f"mkfs.xfs: {path} contains a mounted filesystem\nUsage: mkfs.xfs")
    there = device.filesystem.kind if device.filesystem else "LVM2_member" if device.member else ""
    if there and "f" not in options:
        return failed(
            1,
            f"mkfs.xfs: {path} appears to contain an existing filesystem ({there}).\n"
            "mkfs.xfs: Use the -f option to force overwrite.",
        )
    if device.size < _SMALLEST_XFS:
        return failed(1, "Filesystem must be larger than 300MB.\nUsage: mkfs.xfs")
    if device.filesystem is not None:
        device.filesystem.give_back(device.filesystem.used)
    # The log is written out on a thin volume: 16 % of one of 404 MiB.
    if device.below is not None:
        device.below.take(_LOG, path)
    device.filesystem = FileSystem("xfs", device.size, _LOG, below=device.below, uuid=str(uuid.uuid4()))
    return DONE


def _mount(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    parsed = _options(argv, "o:t:")
    if parsed is None or len(parsed[1]) not in (0, 2) or parsed[0].get("t", "xfs") != "xfs":
        return unknown(argv)
    options, operands = parsed
    if not operands:
        mounts = machine.mounts.values()
        return Result(0, "".join(f"{m.source} on {m.path} type {m.filesystem.kind} ({m.options})\n" for m in mounts))
    source, point = operands
    if not machine.is_directory(point):
        return _not_mounted(point, "mount point does not exist.")
    try:
        machine.mount_line(source, point, options.get("o", "rw"))
    except OSError as error:
        device = machine.blocks.get(source)
        name = device.path if device else source
        reasons = {
            errno.ENOENT: f"special device {source} does not exist.",
            errno.EBUSY: f"{name} already mounted on {point}.",
            errno.EINVAL: f"wrong fs type, bad option, bad superblock on {name}, missing codepage or helper program, "
            "or other error.",
        }
        return _not_mounted(point, reasons.get(error.errno or 0, f"{error.strerror}."))
    return DONE


def _not_mounted(point: str, reason: str) -> Result:
    more = "       dmesg(1) may have more information after failed mount system call."
    return failed(_MOUNT_FAILED, f"mount: {point}: {reason}\n{more}")


def _umount(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if len(argv) != 2 or argv[1].startswith("-"):
        return unknown(argv)
    point = argv[1]
    if machine.find(point) is None:
        return failed(_MOUNT_FAILED, f"umount: {point}: no mount point specified.")
    try:
        machine.unmount(point)
    except OSError as error:
        reason = "not mounted" if error.errno == errno.EINVAL else "target is busy"
        return failed(_MOUNT_FAILED, f"umount: {point}: {reason}.")
    return DONE


def _wipefs(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    """Of a file system only: a physical volume is for ``pvremove``."""
    parsed = _options(argv, "a", ["all"])
    device = machine.blocks.get(parsed[1][0]) if parsed and len(parsed[1]) == 1 else None
    if parsed is None or not parsed[0] or device is None or device.member:
        return unknown(argv)
    if machine.is_mounted(device):
        return failed(1, f"wipefs: error: {argv[-1]}: probing initialization failed: Device or resource busy")
    if device.filesystem is None:
        return DONE
    device.filesystem.give_back(device.filesystem.used)
    device.filesystem = None
    return Result(0, f"{argv[-1]}: 4 bytes were erased at offset 0x00000000 (xfs): 58 46 53 42\n")


BLOCK_PROGRAMS: dict[str, Program] = {"mkfs.xfs": _mkfs_xfs, "mount": _mount, "umount": _umount, "wipefs": _wipefs}

"""What the verbs of ``hosts/lvmcopies.sh`` do on a simulated host, word for word as there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from csi.core.command import Result
from csi.hosts.simulated.lvm import EXTENT, ThinPool, ThinVolume, VolumeGroup
from csi.hosts.simulated.lvm_programs import LVM_PROGRAMS
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import DONE, Program, failed

_EVIDENCE, _CANNOT_COPY = 73, 79
_LARGEST_METADATA = 16 << 30
_SHARE = re.compile(r"csi\.share=(\d+)")


def _lvm(machine: Machine, *words: str) -> Result:
    return LVM_PROGRAMS["lvm"](machine, ("lvm", *words), "")


def _share(volume: ThinVolume) -> int:
    """What it may come to hold, in bytes."""
    found = _SHARE.search(",".join(sorted(volume.tags)))
    if found is None or volume.name.startswith("brick_"):
        return volume.size * EXTENT
    return int(found[1]) << 10


def _up(size: int, unit: int = EXTENT) -> int:
    return -(-size // unit) * unit


def widen(machine: Machine, group: VolumeGroup, pool: ThinPool, name: str, own: int) -> Result:
    """The pool can hold ``own`` bytes of the volume ``name`` besides all that is promised to others."""
    need = _up(own + sum(_share(other) for other in group.volumes_of(pool) if other.name != name))
    metadata = min(_up(need // 200), _LARGEST_METADATA) - pool.metadata * EXTENT
    return extend(machine, f"{group.name}/{pool.name}", need if need > pool.data * EXTENT else 0, max(metadata, 0))


def extend(machine: Machine, pool: str, data: int, more: int) -> Result:
    """Give it so much data, and so much more metadata, in bytes; 0 for none."""
    words = [
        *(("--poolmetadatasize", f"+{more >> 10}K") if more else ()),
        *(("--size", f"{data >> 10}K") if data else ()),
    ]
    return _lvm(machine, "lvextend", "-qq", "--autobackup=n", *words, pool) if words else DONE


def _own(volume: ThinVolume, new: str) -> int:
    if new.startswith("brick_"):
        return volume.size * EXTENT
    if volume.active and volume.name.startswith("brick_"):
        used = volume.device.filesystem.used if volume.device.filesystem else 0
        return min(int(used * 1.05) + 4 * EXTENT, volume.size * EXTENT)
    return _share(volume)


def _copy(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    mode, words, shares = argv[1], argv[2:], ""
    for name, origin, new, said in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True):
        group = machine.lvm.groups[name]
        if new in group.volumes:
            if mode == "keep":
                continue
            if (done := _lvm(machine, "lvremove", "-qq", "--autobackup=n", "-f", f"{name}/{new}")).status:
                return done
        if (volume := group.volumes.get(origin)) is None:
            return failed(_CANNOT_COPY, f"/dev/{name}/{origin} is not there")
        own = _own(volume, new)
        if (done := widen(machine, group, volume.pool, new, own)).status:
            return done
        found = [] if new.startswith("brick_") else [f"csi.share={-(-own // 1024)}", "csi.taken=1700000000"]
        tags = [*said.split(","), *found]
        given = [word for tag in tags for word in ("--addtag", tag)]
        skip = ("--setactivationskip", "n" if new.startswith("brick_") else "y")
        snapshot = ("--snapshot", f"{name}/{origin}", "--name", new)
        done = _lvm(machine, "lvcreate", "-qq", "--autobackup=n", *snapshot, *skip, *given)
        if done.status:
            return done
        shares += f"{-(-own // 1024)}\n"
    return Result(0, shares)


def _copy_ours(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, name, copy, *texts = argv
    volume = machine.lvm.groups[name].volumes.get(copy)
    if volume is None:
        return DONE
    said = re.sub(r",csi\.(share|taken)=\d+", "", ",".join(sorted(volume.tags)))
    return DONE if said in texts else failed(_EVIDENCE, f"/dev/{name}/{copy}\n{said}")


def _flush(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for point in argv[1:]:
        if machine.find(f"{point}/brick.json") is None:
            return failed(1, f"sync: error opening '{point}/brick.json': No such file or directory")
    # What is to be healed is known to the simulated glusterd only.
    return Result(0, "noted=yes\n")


VERBS: dict[str, Program] = {
    "csi_lvm_copy": _copy,
    "csi_lvm_copy_ours": _copy_ours,
    "csi_lvm_flush": _flush,
}

"""What the verbs of ``hosts/copyverbs.sh`` do on a simulated host.

A copy takes as much space as its file: what is shared on a real host counts as if it were not. Watches are kept on the
machine and go off when its time passes (``Machine.pass_time``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from csi.core.command import Result
from csi.hosts.simulated.filesystem import File, FileSystem, copy_directory
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import DONE, Program, failed

# Statuses, as in copyverbs.sh.
_EVIDENCE, LATE, _CANNOT_SHARE = 73, 78, 79

_MARKS = ("trusted.glusterfs.volume-id", "trusted.gfid")
_NOW = "1700000000.000000000"


def watch(machine: Machine, name: str, act: Callable[[], None]) -> None:
    machine.watches[name] = act


def unwatch(machine: Machine, name: str) -> Result:
    return DONE if machine.watches.pop(name, None) is not None else Result(LATE)


def _line(machine: Machine, path: str) -> str:
    try:
        return machine.read(path).partition("\n")[0]
    except OSError:
        return ""


def _file(machine: Machine, path: str) -> File:
    node = machine.find(path)
    if not isinstance(node, File):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return node


def _sizes(machine: Machine, paths: Sequence[str]) -> Result:
    files = [_file(machine, path) for path in paths]
    return Result(0, "".join(f"{(f.allocated + (f.image.used if f.image else 0)) // 512} 512\n" for f in files))


def _flush(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    sizes = _sizes(machine, [f"{stem}.img" for stem in argv[1::2]])
    # What is to be healed is known to the simulated glusterd only.
    return Result(0, "noted=yes\n" * len(argv[1::2]) + sizes.stdout)


def _seal(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    return _sizes(machine, argv[1:])


def _copy_tag(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    found = _copy_ours(machine, argv, stdin)
    if found.status == 0 and not _line(machine, f"{argv[1]}.copy-of"):
        machine.write(f"{argv[1]}.copy-of", argv[2] + "\n")
    return found


def _copy_ours(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    stem, texts = argv[1], argv[2:]
    line = _line(machine, f"{stem}.copy-of")
    if line:
        return DONE if line in texts else failed(_EVIDENCE, f"{stem}.copy-of\n{line}")
    return failed(_EVIDENCE, f"{stem}.copy\n") if machine.find(f"{stem}.copy") is not None else DONE


def _freeze(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    name, points = argv[1], argv[3::2]
    watch(machine, f"freeze.{name}", lambda: _thaw_all(machine, points))
    for point in points:
        system = machine.filesystem_of(point)
        if system.frozen or point not in machine.mounts:
            return failed(1, f"fsfreeze: {point}: freeze failed: Device or resource busy")
        system.frozen = True
    return DONE


def _thaw_all(machine: Machine, points: Sequence[str]) -> None:
    for point in points:
        if point in machine.mounts:
            machine.filesystem_of(point).frozen = False


def _thaw(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _thaw_all(machine, argv[2:])
    return unwatch(machine, f"freeze.{argv[1]}")


def share(machine: Machine, source: str, target: str) -> None:
    """``cp --reflink=always``."""
    file = _file(machine, source)
    if machine.find(target) is not None:
        machine.unlink(target)
    below = machine.filesystem_of(target)
    inner = file.image
    below.take(file.allocated + (inner.used if inner else 0), target)
    made = machine.write(target, "")
    made.size, made.allocated = file.size, file.allocated
    if inner is not None:
        made.image = FileSystem(inner.kind, inner.capacity, inner.used, copy_directory(inner.root), below)


def _share(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for source, target in zip(argv[1::2], argv[2::2], strict=True):
        if machine.filesystem_of(target).kind not in ("xfs", "btrfs"):
            return failed(_CANNOT_SHARE, f"cp: failed to clone '{target}' from '{source}': Operation not supported")
        share(machine, source, target)
    return DONE


def _fill(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if machine.find(f"{argv[2]}.img") is None:
        share(machine, argv[1], f"{argv[2]}.img")
    return DONE


def _adopt(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, storage, point, _, text = argv
    if point in machine.mounts:
        return DONE
    machine.make_directory(point, parents=True).immutable = True
    block = machine.blocks.get(storage)
    image = block.filesystem if block is not None else _file(machine, storage).image
    assert image is not None
    inside = image.root.children
    identity, brick = inside["brick.json"], inside["brick"]
    assert isinstance(identity, File)
    if identity.text != text + "\n":
        for mark in _MARKS:
            brick.xattrs.pop(mark, None)
        identity.text, identity.size = text + "\n", len(text.encode()) + 1
    return DONE


def _date(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    return Result(0, f"{_NOW}\n")


COPY_VERBS: dict[str, Program] = {
    "csi_bricks_flush": _flush,
    "csi_copies_seal": _seal,
    "csi_copy_tag": _copy_tag,
    "csi_copy_ours": _copy_ours,
    "csi_bricks_freeze": _freeze,
    "csi_bricks_thaw": _thaw,
    "csi_share": _share,
    "csi_brick_fill": _fill,
    "csi_brick_adopt": _adopt,
    "date": _date,
}

"""What the verbs of ``hosts/verbs.sh`` for image bricks do on a simulated host, word for word as there."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from csi.core.command import Result
from csi.hosts.simulated.filesystem import Directory, File, FileSystem
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import DONE, Program, failed

# Statuses, as in verbs.sh.
_UNMARKED, _MARKED_OTHERWISE, _EVIDENCE, _BUSY, _OTHER_SIZE, _NOT_MOUNTED = 71, 72, 73, 74, 75, 76

_SMALLEST_XFS = 300 << 20
_LOG = 64 << 20  # what an empty XFS takes of a sparse image, nearly all of it its log


def _line(machine: Machine, path: str) -> str:
    """What the shell's ``read`` gets: the first line, nothing if there is no such file."""
    try:
        return machine.read(path).partition("\n")[0]
    except OSError:
        return ""


def _evidence(path: str, line: str) -> Result:
    return failed(_EVIDENCE, f"{path}\n{line}")


def _device_claimed(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, mark, text = argv
    line = _line(machine, mark)
    if line == text:
        return DONE
    return Result(_UNMARKED) if machine.find(mark) is None else failed(_MARKED_OTHERWISE, line)


def _device_claim(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    if machine.find(argv[1]) is None:
        machine.write(argv[1], argv[2] + "\n")
    return _device_claimed(machine, argv, stdin)


def _device_facts(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    path = argv[1]
    node = machine.find(path)
    if path in machine.disks or path in machine.blocks:
        kind = "block"
    elif isinstance(node, Directory):
        kind = "directory"
    else:
        kind = "missing" if node is None else "other"
    missing = "" if machine.find("/dev/loop-control") else "missing=/dev/loop-control\n"
    return Result(0, f"kind={kind}\n{missing}")


def _brick_tag(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    stem, texts = argv[1], argv[2:]
    line = _line(machine, stem + ".json")
    if line:
        return DONE if line in texts else _evidence(stem + ".json", line)
    if machine.find(stem + ".img") is not None:
        return _evidence(stem + ".img", "")
    machine.write(stem + ".json", texts[0] + "\n")
    return DONE


def _brick_format(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    stem, size, mode, gid = argv[1], int(argv[2]), argv[3], int(argv[4])
    there = machine.find(stem + ".img")
    if isinstance(there, File):
        return DONE if there.size == size else failed(_OTHER_SIZE, f"{stem}.img has {there.size} bytes")
    machine.write(f"{stem}.1.proto.part", f"brick {mode} 0 {gid}\nbrick.json ---644 0 0 {stem}.json\n")
    part_path = f"{stem}.1.img.part"
    if machine.find(part_path) is not None:
        machine.unlink(part_path)
    part = machine.write(part_path, "")
    if size < _SMALLEST_XFS:
        return failed(1, "Filesystem must be larger than 300MB.")
    below = machine.filesystem_of(stem)
    below.take(_LOG, part_path)
    image = FileSystem("xfs", size - _LOG, below=below)
    bits = int(mode[3:], 8) | (0o2000 if mode[2] == "g" else 0) | (0o4000 if mode[1] == "u" else 0)
    text = machine.read(stem + ".json")
    image.root.children = {"brick": Directory(mode=bits, gid=gid), "brick.json": File(text, len(text.encode()))}
    part.size, part.allocated, part.image = size, _LOG, image
    machine.rename(part_path, stem + ".img")
    return DONE


def _brick_sweep(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for stem in argv[1:]:
        above, _, name = stem.rpartition("/")
        directory = machine.find(above)
        # The only shell here is number 1; a look at every name of a directory would not scale as the real one does.
        for part in (f"{name}.1.proto.part", f"{name}.1.img.part"):
            if isinstance(directory, Directory) and part in directory.children:
                machine.unlink(f"{above}/{part}")
    return DONE


def _brick_mount(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, stem, point, options = argv
    if point in machine.mounts:
        return DONE
    directory = machine.make_directory(point, parents=True)
    remark = ""
    if machine.filesystem_of(point).can_be_immutable:
        directory.immutable = True
    else:
        remark = f"chattr: Operation not supported while setting flags on {point}\n"
    try:
        machine.mount_line(stem + ".img", point, options)
    except OSError as error:
        return failed(32, f"{remark}mount: {point}: {error.strerror}.")
    return Result(0, stderr=remark)


def _brick_root(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    point, mode, gid, texts = argv[1], int(argv[2], 8), int(argv[3]), argv[4:]
    line = _line(machine, point + "/brick.json")
    if not line:
        machine.write(point + "/brick.json", texts[0] + "\n")
    elif line not in texts:
        return _evidence(point + "/brick.json", line)
    if not machine.is_directory(point + "/brick"):
        machine.make_directory(point + "/brick", mode=mode).gid = gid
    return DONE


def _brick_grow(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    stem, point, size, texts = argv[1], argv[2], int(argv[3]), argv[4:]
    if (judged := _brick_ours(machine, ("", stem, point, *texts), stdin)).status:
        return judged
    file, mount = machine.find(stem + ".img"), machine.mounts.get(point)
    if mount is None or not isinstance(file, File) or file.image is None:
        return failed(_NOT_MOUNTED, point)
    if size > file.size:
        file.image.capacity += size - file.size
        file.size = size
    for path in (stem + ".json", point + "/brick.json"):
        if _line(machine, path) != texts[0]:
            machine.write(path, texts[0] + "\n")
    return DONE


def _point(entry: str) -> str:
    """The mount point of an entry: a line of fstab, or the mount point alone."""
    words = entry.split()
    return words[1] if len(words) > 1 else words[0]


def _fstab(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    fstab, entries = argv[1], argv[2:]
    text = machine.read(fstab) if machine.find(fstab) else ""
    if text.endswith("\n") and not any(_point(entry) in text for entry in entries):
        # The usual case, without a look at each of many thousand lines.
        lines = [entry + "\n" for entry in entries if " " in entry]
        if lines:
            _replace(machine, fstab, text + "".join(lines))
        return DONE
    gone = {entry for entry in entries if _point(entry) == entry}
    want = {_point(entry): entry for entry in entries if entry not in gone}
    lines = text.splitlines()
    kept: list[str] = []
    for line in lines:
        words = line.split()
        point = words[1] if len(words) > 1 and not words[0].startswith("#") else ""
        if point not in gone and (point not in want or (line == want[point] and line not in kept)):
            kept.append(line)
    kept += [line for line in want.values() if line not in kept]
    if kept != lines:
        _replace(machine, fstab, "".join(line + "\n" for line in kept))
    return DONE


def _replace(machine: Machine, path: str, text: str) -> None:
    machine.write(path + ".part", text)
    machine.rename(path + ".part", path)


def _brick_ours(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    stem, point, texts = argv[1], argv[2], argv[3:]
    line = _line(machine, stem + ".json")
    inside = point + "/brick.json"
    if line:
        if line not in texts:
            return _evidence(stem + ".json", line)
    elif machine.find(stem + ".img") is not None:
        return _evidence(stem + ".img", "")
    elif machine.find(inside) is None and point in machine.mounts:
        return _evidence(point, "")
    if machine.find(inside) is None:
        return DONE
    line = _line(machine, inside)
    return DONE if line in texts else _evidence(inside, line)


def _brick_unmount(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for point in argv[1:]:
        if point not in machine.mounts:
            continue
        try:
            machine.unmount(point)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            pids = " ".join(str(process.pid) for process in machine.users_of(point))
            return failed(_BUSY, f"umount: {point}: target is busy.\nheld by processes: {pids}")
    return DONE


def _brick_unpoint(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    for point in argv[1:]:
        directory = machine.find(point)
        if isinstance(directory, Directory):
            directory.immutable = False
            machine.remove_directory(point)
    return DONE


VERBS: dict[str, Program] = {
    "csi_device_claimed": _device_claimed,
    "csi_device_claim": _device_claim,
    "csi_device_facts": _device_facts,
    "csi_brick_tag": _brick_tag,
    "csi_brick_format": _brick_format,
    "csi_brick_sweep": _brick_sweep,
    "csi_brick_mount": _brick_mount,
    "csi_brick_root": _brick_root,
    "csi_brick_grow": _brick_grow,
    "csi_fstab": _fstab,
    "csi_brick_ours": _brick_ours,
    "csi_brick_unmount": _brick_unmount,
    "csi_brick_unpoint": _brick_unpoint,
}

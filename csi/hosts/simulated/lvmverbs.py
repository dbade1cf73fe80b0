"""What the verbs of ``hosts/lvm.sh`` do on a simulated host, word for word as there."""

from __future__ import annotations

from collections.abc import Sequence

from csi.core.command import Result
from csi.hosts.simulated import lvm_reports as reports
from csi.hosts.simulated.filesystem import Directory, File, FileSystem
from csi.hosts.simulated.lvm import EXTENT
from csi.hosts.simulated.lvm_programs import LVM_PROGRAMS
from csi.hosts.simulated.lvmcopyverbs import extend, widen
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import DONE, Program, failed

# Statuses, as in verbs.sh and lvm.sh.
_UNMARKED, _MARKED_OTHERWISE, _EVIDENCE, _BUSY, _OTHER_SIZE, _NOT_MOUNTED = 71, 72, 73, 74, 75, 76
_HOLDS_SOMETHING, _IN_USE = 78, 79

_REPORT = "/run/gluster-csi.lvm.1"
_SEEN = "/run/gluster-csi.lvm.seen"
_GROUP = ("vg_name", "vg_tags", "", "vg_extent_count", "vg_free_count")
_VOLUME = (
    *("vg_name", "lv_name", "pool_lv", "lv_tags", "lv_size", "lv_active"),
    *("data_percent", "metadata_percent", "lv_metadata_size"),
)
_LOG = 64 << 20


def _lvm(machine: Machine, *words: str) -> Result:
    return LVM_PROGRAMS["lvm"](machine, ("lvm", *words), "")


def _report(machine: Machine, names: Sequence[str]) -> str:
    sizes = reports.sizes_in("b", suffix=False)
    lines = []
    for name in names or sorted(machine.lvm.groups):
        if (group := machine.lvm.groups.get(name)) is None:
            continue
        row = reports.of_group(group, sizes) | {"": "0"}
        lines.append("|".join(row[field] for field in _GROUP))
        for volume in reports.of_volumes(machine.lvm, group, sizes).values():
            if not volume["lv_name"].startswith("["):
                lines.append("|".join(volume[field] for field in _VOLUME))
    return "".join(f"  {line}\n" for line in lines)


def _look(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    pairs = list(zip(argv[1::2], argv[2::2], strict=True))
    text = _report(machine, [name for name, _ in pairs])
    machine.write(_REPORT, text)
    for name, mark in pairs:
        if (group := machine.lvm.groups.get(name)) is None:
            return Result(_UNMARKED, text, f"{name}\n")
        tags = ",".join(sorted(group.tags))
        if not set(mark.split(",")) <= group.tags:
            return Result(_MARKED_OTHERWISE, text, f"{tags}\n")
    return Result(0, text)


def _look_ahead(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    found = _look(machine, argv, stdin)
    if found.status == 0:
        machine.write(_SEEN, f"{machine.lvm.turn} {' '.join(argv[1:])}\n{found.stdout}")
    return found


def _look_back(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    """No time passes here: what was seen is never too old."""
    seen = machine.read(_SEEN) if machine.find(_SEEN) is not None else ""
    what, _, rows = seen.partition("\n")
    if what != f"{machine.lvm.turn} {' '.join(argv[1:])}":
        return _look(machine, argv, stdin)
    machine.write(_REPORT, rows)
    return DONE


def _row(machine: Machine, group: str, name: str) -> list[str]:
    """The fields of a volume as the look saw it; none if it did not."""
    start = f"{group}|{name}|"
    lines = (line.strip() for line in machine.read(_REPORT).splitlines())
    return next((line.split("|") for line in lines if line.startswith(start)), [])


def _ours(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, group, name, pool, point, *texts = argv
    row = _row(machine, group, name)
    owner = row if row and row[3] else _row(machine, group, row[2] if row else pool)
    inside = f"{point}/brick.json"
    if row or owner:
        tags = owner[3] if owner else ""
        if tags not in texts:
            return failed(_EVIDENCE, f"/dev/{group}/{name}\n{tags}")
    elif machine.find(inside) is None and point in machine.mounts:
        return failed(_EVIDENCE, f"{point}\n")
    if machine.find(inside) is None:
        return DONE
    line = machine.read(inside).partition("\n")[0]
    return DONE if line in texts else failed(_EVIDENCE, f"{inside}\n{line}")


def _make(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, group, name, pool, tags, metadata, data, size = argv
    virtual = ("--virtualsize", f"{size}K", "--name", name)
    if row := _row(machine, group, name):
        if int(row[4]) != -(-int(size) * 1024 // EXTENT) * EXTENT:
            return failed(_OTHER_SIZE, f"/dev/{group}/{name} has {row[4]} bytes")
        if row[5] == "active":
            return DONE
        return _lvm(machine, "lvchange", "-qq", "--autobackup=n", "-K", "-ay", f"{group}/{name}")
    if _row(machine, group, pool):
        there = machine.lvm.groups[group]
        if (done := widen(machine, there, there.pools[pool], name, int(data) * 1024)).status:
            return done
        return _lvm(machine, "lvcreate", "-qq", "--autobackup=n", "--thin", f"{group}/{pool}", *virtual)
    given = [word for tag in tags.split(",") for word in ("--addtag", tag)]
    sized = ("--poolmetadatasize", f"{metadata}K", "--chunksize", "256K", "--size", f"{data}K")
    return _lvm(machine, "lvcreate", "-qq", "--autobackup=n", *sized, "--thin", f"{group}/{pool}", *virtual, *given)


def _format(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    device, mode, gid, text = argv[1], argv[2], int(argv[3]), argv[4]
    block = machine.blocks.get(device)
    if block is None:
        return failed(1, f"{device}: No such file or directory")
    if block.filesystem is not None:
        return DONE
    if block.below is not None:
        block.below.take(_LOG, device)
    bits = int(mode[3:], 8) | (0o2000 if mode[2] == "g" else 0) | (0o4000 if mode[1] == "u" else 0)
    block.filesystem = made = FileSystem("xfs", block.size, _LOG, below=block.below, uuid=device)
    line = text + "\n"
    made.root.children = {"brick": Directory(mode=bits, gid=int(gid)), "brick.json": File(line, len(line.encode()))}
    return DONE


def _mount(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, device, point, options = argv
    if point in machine.mounts:
        return DONE
    machine.make_directory(point, parents=True).immutable = True
    try:
        machine.mount_line(device, point, options)
    except OSError as error:
        return failed(32, f"mount: {point}: {error.strerror}.")
    return DONE


def _grow(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    group, name, _, tags, text, _, data, size, point = argv[1:]
    row = _row(machine, group, name)
    if not row or point not in machine.mounts:
        return failed(_NOT_MOUNTED, point)
    pool = _row(machine, group, row[2])
    owner = row if row[3] else pool
    wide = f"{group}/{name}"
    there = machine.lvm.groups[group]
    if (done := widen(machine, there, there.pools[pool[1]], name, int(data) * 1024)).status:
        return done
    if int(row[4]) < int(size) * 1024:
        done = _lvm(machine, "lvextend", "-qq", "--autobackup=n", "--size", f"{size}K", wide)
        if done.status:
            return done
    mount = machine.mounts[point]
    block = machine.blocks[f"/dev/mapper/{group}-{name}"]
    mount.filesystem.capacity = max(mount.filesystem.capacity, block.size)
    machine.write(f"{point}/brick.json", text + "\n")
    return _retag(machine, f"{group}/{owner[1]}", tags, owner[3])


def _extend_pool(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, group, name, tags, text, metadata, data, point = argv
    row = _row(machine, group, name)
    if not row or point not in machine.mounts:
        return failed(_NOT_MOUNTED, point)
    there = machine.lvm.groups[group].pools[row[2]]
    wide = f"{group}/{there.name}"
    lacking = max((int(metadata) << 10) - there.metadata * EXTENT, 0)
    wanted = int(data) << 10
    if (done := extend(machine, wide, wanted if wanted > there.data * EXTENT else 0, lacking)).status:
        return done
    machine.write(f"{point}/brick.json", text + "\n")
    owner = row if row[3] else _row(machine, group, there.name)
    return _retag(machine, f"{group}/{owner[1]}", tags, owner[3])


def _retag(machine: Machine, name: str, new_tags: str, old_tags: str) -> Result:
    if old_tags == new_tags:
        return DONE
    old, new = set(old_tags.split(",")), set(new_tags.split(","))
    changes = [word for tag in sorted(old - new) for word in ("--deltag", tag)]
    changes += [word for tag in sorted(new) for word in ("--addtag", tag)]
    return _lvm(machine, "lvchange", "-qq", "--autobackup=n", *changes, name)


def _remove(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    volumes, pools = [], []
    for group, name, pool in zip(argv[1::3], argv[2::3], argv[3::3], strict=True):
        row = _row(machine, group, name)
        if row:
            volumes.append((group, name))
        if _row(machine, group, used := row[2] if row else pool):
            pools.append((group, used))
        there = machine.lvm.groups[group]
        pools += [(group, pool) for pool, found in there.pools.items() if not there.volumes_of(found)]
    for group, name in volumes:
        done = _lvm(machine, "lvremove", "-qq", "--autobackup=n", "-f", f"{group}/{name}")
        if done.status:
            return done
    for group, name in pools:
        there = machine.lvm.groups[group]
        if name in there.pools and not there.volumes_of(there.pools[name]):
            _lvm(machine, "lvremove", "-qq", "--autobackup=n", "-f", f"{group}/{name}")
    return DONE


def _facts(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    path = argv[1]
    block = machine.blocks.get(path)
    if block is None:
        there = path in machine.disks or machine.find(path) is not None
        return Result(0, f"kind={'other' if there else 'missing'}\n")
    lines = ["kind=block", f"size={block.size}"]
    if block.filesystem is not None:
        lines.append(f"signature={block.filesystem.kind}")
    if (physical := machine.lvm.physical.get(path)) is not None:
        lines.append("signature=LVM2_member")
        group = physical.group
        lines.append(f"group={group.name}|{','.join(sorted(group.tags))}|{group.total}" if group else "group=||")
    return Result(0, "".join(f"{line}\n" for line in lines))


def _claim(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, path, name, mark, wipe = argv
    if (group := machine.lvm.groups.get(name)) is not None:
        tags = ",".join(sorted(group.tags))
        return DONE if set(mark.split(",")) <= group.tags else failed(_MARKED_OTHERWISE, tags)
    block = machine.blocks.get(path)
    if wipe == "yes" and block is not None:
        if (there := machine.lvm.physical.get(path)) is not None and there.group is not None:
            return failed(_HOLDS_SOMETHING, f"volume group {there.group.name}")
        if machine.is_mounted(block):
            return failed(_IN_USE, f"wipefs: error: {path}: probing initialization failed: Device or resource busy")
        block.filesystem = None
    made = _lvm(machine, "pvcreate", "-qq", "--metadatasize=128M", "--dataalignment=256K", path)
    if made.status:
        return Result(_HOLDS_SOMETHING, stderr=made.stderr)
    given = [word for tag in mark.split(",") for word in ("--addtag", tag)]
    return _lvm(machine, "vgcreate", "-qq", "--physicalextentsize=4M", "--autobackup=n", *given, name, path)


def _release(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, path, name, mark = argv
    disks = [path]
    if (there := machine.lvm.groups.get(name)) is not None:
        if not set(mark.split(",")) <= there.tags:
            return failed(_MARKED_OTHERWISE, ",".join(sorted(there.tags)))
        if held := [f"{name}/{one}" for one in (*there.pools, *there.volumes)]:
            return failed(_BUSY, "\n".join(held))
        disks = [physical.device.path for physical in there.devices]
        if (done := _lvm(machine, "vgremove", "-qq", name)).status:
            return Result(_BUSY, stderr=done.stderr)
    for disk in disks:
        physical = machine.lvm.physical.get(disk)
        if physical is None or physical.group is not None:
            continue
        if (done := _lvm(machine, "pvremove", "-qq", disk)).status:
            return done
    point = f"/var/lib/heketi/mounts/{name}"
    directory = machine.find(point)
    if isinstance(directory, Directory) and not directory.children:
        machine.remove_directory(point)
    return DONE


def _take_over(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    _, name, mark, *bricks = argv
    machine.write(_REPORT, _report(machine, [name]))
    if (group := machine.lvm.groups.get(name)) is None:
        return failed(_UNMARKED, name)
    things = [(name, group.tags, mark, "")]
    for volume, tags, point, text in zip(bricks[::4], bricks[1::4], bricks[2::4], bricks[3::4], strict=True):
        if volume not in group.volumes or point not in machine.mounts:
            return failed(_NOT_MOUNTED, point)
        things.append((f"{name}/{volume}", group.volumes[volume].tags, tags, f"{point}/brick.json\n{text}"))
    for path, present, wanted, said in things:
        if present and ",".join(sorted(present)) != wanted:
            return failed(_EVIDENCE, f"/dev/{path}\n{','.join(sorted(present))}")
        present.update(wanted.split(","))
        file, _, text = said.partition("\n")
        if file and machine.find(file) is None:
            machine.write(file, text + "\n")
    return DONE


VERBS: dict[str, Program] = {
    "csi_lvm_take_over": _take_over,
    "csi_lvm_look": _look,
    "csi_lvm_look_ahead": _look_ahead,
    "csi_lvm_look_back": _look_back,
    "csi_lvm_ours": _ours,
    "csi_lvm_make": _make,
    "csi_lvm_format": _format,
    "csi_lvm_mount": _mount,
    "csi_lvm_grow": _grow,
    "csi_lvm_extend_pool": _extend_pool,
    "csi_lvm_remove": _remove,
    "csi_lvm_facts": _facts,
    "csi_lvm_claim": _claim,
    "csi_lvm_release": _release,
}

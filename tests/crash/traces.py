"""Everything that a world of simulated hosts holds, as plain values: two worlds are alike if their traces are equal.

Process ids, loop numbers and the uuids that glusterd draws are left out: they differ between equal worlds.
"""

from __future__ import annotations

from collections.abc import Iterator

from csi.hosts.simulated.filesystem import Directory, File, FileSystem
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.world import World


def traces(world: World) -> dict[str, object]:
    found: dict[str, object] = {}
    for machine in {id(m): m for m in world.machines.values()}.values():
        found.update((f"{machine.name}:{what}", value) for what, value in _of_machine(machine))
    return found | dict.fromkeys(held(world), True)


def held(world: World) -> list[str]:
    """What keeps writers waiting: frozen file systems, and volumes behind a barrier."""
    machines = {id(m): m for m in world.machines.values()}.values()
    frozen = [f"{m.name}:{p} is frozen" for m in machines for p, mount in m.mounts.items() if mount.filesystem.frozen]
    told = [world.glusterd.answer(m, ["volume", "info"]) for m in machines] if world.glusterd is not None else []
    behind = any("<name>features.barrier</name>\n            <value>enable<" in document for document in told)
    return frozen + (["a barrier is on"] if behind else [])


def difference(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """What ``found`` has too much, lacks, or has otherwise; empty if the worlds are alike."""
    lines = [f"left over: {k} = {found[k]!r}" for k in sorted(found.keys() - expected.keys())]
    lines += [f"missing: {k}" for k in sorted(expected.keys() - found.keys())]
    both = sorted(expected.keys() & found.keys())
    lines += [f"differs: {k}: {expected[k]!r} / {found[k]!r}" for k in both if not _alike(k, expected[k], found[k])]
    return lines


def _alike(key: str, expected: object, found: object) -> bool:
    """A thin pool that was enlarged for a copy stays so until it goes, and the spare metadata of its group too."""
    kind = key.partition(":")[2].partition(" ")[0]
    if isinstance(expected, tuple) and isinstance(found, tuple):
        if kind == "pool":
            return expected[2:] == found[2:] and all(b >= a for a, b in zip(expected[:2], found[:2], strict=True))
        if key.partition(":")[2].startswith("volume group "):
            return bool(expected[1:] == found[1:] and found[0] >= expected[0])
    return expected == found


def _of_machine(machine: Machine) -> Iterator[tuple[str, object]]:
    yield from _tree(machine.root, "")
    for path, mount in machine.mounts.items():
        yield f"mount {path}", (mount.options.removesuffix(",nofail"), mount.image_path)
        yield from _tree(mount.filesystem, path)
    for line in machine.read(machine.fstab).splitlines():
        yield f"fstab {line}", True
    for number, process in enumerate(sorted((p.name, p.cwd) for p in machine.processes.values())):
        yield f"process {number}", process
    for name in machine.watches:
        yield f"watch {name}", True
    for disk, filesystem in machine.disks.items():
        yield f"space {disk}", filesystem.used
    for group in machine.lvm.groups.values():
        # Not its free extents: LVM keeps its spare metadata until the last pool goes, whoever made the pools.
        yield f"volume group {group.name}", (group.spare, sorted(group.tags))
        for pool in group.pools.values():
            yield f"pool {group.name}/{pool.name}", (pool.data, pool.metadata, pool.active, sorted(pool.tags))
        for volume in group.volumes.values():
            yield f"volume {group.name}/{volume.name}", (volume.size, volume.pool.name, volume.active)


def _tree(filesystem: FileSystem, top: str) -> Iterator[tuple[str, object]]:
    def walk(node: File | Directory, path: str) -> Iterator[tuple[str, object]]:
        if path == "/run":  # pid files and locks: processes are looked at themselves
            return
        attributes = (oct(node.mode), node.uid, node.gid, node.immutable, tuple(sorted(node.xattrs)))
        if isinstance(node, Directory):
            yield path or "/", ("directory", *attributes)
            for name, child in node.children.items():
                yield from walk(child, f"{path}/{name}")
        else:
            yield path, ("file", node.size, node.image is not None, *attributes)

    yield from walk(filesystem.root, top)

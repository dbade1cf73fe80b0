"""Control groups of a node: one group in each hierarchy. All that runs on the node is in it or below it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.lab.system import end, wait_for

_ROOT = Path("/sys/fs/cgroup")


def group_name(instance: str) -> str:
    return f"gluster-csi-{instance}"


def _hierarchies() -> list[Path]:
    """Version 2 alone: the root. Version 1, or both: a directory for each."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    # With both, "unified" has no controllers, and runc ignores it.
    return [path for path in sorted(_ROOT.iterdir()) if (path / "cgroup.procs").exists() and path.name != "unified"]


def groups(instance: str) -> list[Path]:
    """Those that are there."""
    return [path for h in _hierarchies() if (path := h / group_name(instance)).is_dir()]


def make_groups(instance: str) -> None:
    for hierarchy in _hierarchies():
        group = hierarchy / group_name(instance)
        group.mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / "cpuset.cpus").exists() and (group / setting).exists():  # version 1 starts with none
                (group / setting).write_text((hierarchy / setting).read_text())


def entrances(instance: str) -> list[Path]:
    """Whoever writes its PID into each of these is in the node's groups. On version 2 the node keeps a leaf for it."""
    leaves = [group / "init/cgroup.procs" for group in groups(instance)]
    return [leaf if leaf.exists() else leaf.parents[1] / "cgroup.procs" for leaf in leaves]


def members(instance: str) -> list[int]:
    """Every process of the node, in whatever namespace its container is."""
    found: set[int] = set()
    for group in groups(instance):
        for directory, _, _ in os.walk(group):
            with contextlib.suppress(OSError):  # gone meanwhile
                found.update(int(pid) for pid in Path(directory, "cgroup.procs").read_text().split())
    return sorted(found)


def remove_groups(instance: str, seconds: float = 20) -> None:
    """End what is in them, and remove them, innermost first."""
    while pids := members(instance):
        end(pids, seconds)
    # A group can be removed a moment after its last process: the kernel takes it out late.
    wait_for(f"removal of the control groups {group_name(instance)}", lambda: _removed(instance), seconds)


def _removed(instance: str) -> bool:
    for group in groups(instance):
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    return not groups(instance)

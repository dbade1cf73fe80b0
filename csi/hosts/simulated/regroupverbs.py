"""The verbs of ``hosts/regroup.sh`` on a simulated host: the files of a volume are those that lie in its bricks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from csi.core.command import Result
from csi.hosts.simulated.filesystem import Node
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import DONE, failed
from csi.hosts.simulated.world import World

_BRICK = re.compile(r"<name>([^<:]+):(/[^<]*)</name>")


def run(world: World, machine: Machine, argv: Sequence[str]) -> Result:
    """All at once: what goes on beside others is seen on real hosts only."""
    if argv[0] == "csi_regroup_end":
        return DONE
    _, _, _, volume, old, new, *_ = argv
    told = world.glusterd.answer(machine, ["volume", "info", volume]) if world.glusterd is not None else ""
    bricks = _BRICK.findall(told)
    if not bricks or "<statusStr>Started</statusStr>" not in told:
        return failed(1, f"volume {volume} could not be mounted from {argv[2]}: failed to fetch volume file")
    names = set()
    for address, path in bricks:
        brick = world.machines[address].find(path)
        if brick is None:
            return failed(1, f"chgrp: changing group of '.': {path}: Input/output error")
        for name, node in _all(brick, "."):
            if node.gid == int(old):
                node.gid = int(new)
                names.add(name)
    return Result(0, f"{len(names)} done\n")


def _all(node: Node, name: str) -> Iterator[tuple[str, Node]]:
    yield name, node
    for child, below in node.children.items():
        yield from _all(below, f"{name}/{child}")

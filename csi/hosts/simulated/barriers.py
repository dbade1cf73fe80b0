"""The verbs of ``hosts/copyverbs.sh`` that end barriers by themselves, on a simulated host."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from csi.core.command import Result
from csi.hosts.simulated.copyverbs import unwatch, watch
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.world import World


def run(world: World, machine: Machine, argv: Sequence[str]) -> Result:
    name = f"barrier.{argv[1]}"
    if argv[0] == "csi_barrier_unwatch":
        return unwatch(machine, name)

    def end() -> None:
        for volume in argv[3:]:
            with suppress(ValueError):  # it was off, or glusterd is away
                assert world.glusterd is not None
                world.glusterd.answer(machine, ["volume", "barrier", volume, "disable"])

    watch(machine, name, end)
    return Result(0)

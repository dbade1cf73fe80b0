"""The verbs of ``hosts/copyverbs.sh`` that ask glusterd for barriers, on a simulated host."""

from __future__ import annotations

from collections.abc import Sequence

from csi.core.command import Result
from csi.hosts.simulated.copyverbs import unwatch, watch
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import failed
from csi.hosts.simulated.world import World


def run(world: World, machine: Machine, argv: Sequence[str]) -> Result:
    if argv[0] == "csi_barrier_on":
        return _on(world, machine, argv[1], argv[3:])
    return _off(world, machine, argv[1], argv[2:])


def _on(world: World, machine: Machine, name: str, volumes: Sequence[str]) -> Result:
    def end() -> None:
        _disable(world, machine, volumes)

    watch(machine, f"barrier.{name}", end)
    refused = [volume for volume in volumes if not _set(world, machine, volume, "enable")]
    return failed(1, "volume barrier: command unsuccessful : Failed to reconfigure barrier.") if refused else Result(0)


def _off(world: World, machine: Machine, name: str, volumes: Sequence[str]) -> Result:
    was_on = _disable(world, machine, volumes)
    ended = unwatch(machine, f"barrier.{name}")
    return ended if was_on else Result(78)


def _disable(world: World, machine: Machine, volumes: Sequence[str]) -> bool:
    were_on = [_set(world, machine, volume, "disable") for volume in volumes]
    return all(were_on)


def _set(world: World, machine: Machine, volume: str, how: str) -> bool:
    if world.glusterd is None:
        return False
    return "<opRet>0</opRet>" in world.glusterd.answer(machine, ["volume", "barrier", volume, how])

"""The extension of a thin pool over simulated hosts, ended at every command and commit: what the next life does.

Somebody made a snapshot by hand, so the pool of each brick is promised twice; all of them are nearly full. Whatever the
point, afterwards each pool is extended once, and the records count what the pools take, no more and no less.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress

from csi import corewiring
from csi.core.errors import DriverError
from csi.core.model import Volume
from csi.hosts.simulated.lvm import EXTENT
from csi.hosts.simulated.world import Crashed
from tests.crash.sampling import tried
from tests.crash.simulated import Scenario, Trial, trial_directory
from tests.crash.states import CustomResources, SqliteState, State
from tests.crash.traces import traces

SCENARIO = Scenario("extend thin pools, replicate 3", 3, "replicate:3", device="/dev/vdb")
LIVES = ("recovered", "looked again", "deleted")
_STEP = 25


async def _begun(trial: Trial) -> tuple[corewiring.Core, Volume]:
    bricks = trial.settings.bricks
    bricks = bricks.model_copy(update={"pool_autoextend_threshold": 70.0, "pool_autoextend_percent": float(_STEP)})
    trial.settings = trial.settings.model_copy(update={"bricks": bricks})
    await trial.prepare()
    assert trial.core is not None
    volume = await trial.core.volumes.create(trial.scenario.request())
    for machine in {id(m): m for m in trial.world.machines.values()}.values():
        for group in machine.lvm.groups.values():
            for pool in group.pools.values():
                (origin,) = group.volumes_of(pool)
                machine.lvm.snapshot(group, origin, "by_hand", skip=True, tags=set())
                pool.space.used = pool.space.capacity * 75 // 100
    return trial.core, volume


def _by_hand_gone(trial: Trial) -> None:
    for machine in {id(m): m for m in trial.world.machines.values()}.values():
        for group in machine.lvm.groups.values():
            if "by_hand" in group.volumes:
                machine.lvm.remove(group, group.volumes["by_hand"])


def _extended(trial: Trial, size: int) -> list[str]:
    """What is wrong with the pools, and with what is counted of them."""
    problems = []
    inventory = trial.inventory
    for device in inventory.devices.values():
        group = trial.world.machines[inventory.hosts[device.host_id].manage].lvm.groups[f"vg_{device.id}"]
        taken = sum((pool.data + pool.metadata) * EXTENT for pool in group.pools.values())
        if (used := inventory.used.get(device.id, 0)) != taken:
            problems.append(f"{used} bytes of {device.path} are counted, its pools take {taken}")
        problems += [f"{p.name} has {p.data} extents, not {size}" for p in group.pools.values() if p.data != size]
    return problems


async def _reference(kept: type[State]) -> tuple[dict[str, object], int, list[str]]:
    """The traces without the volume, the size of an extended pool in extents, and the labels of all points."""
    directory = trial_directory()
    try:
        trial = Trial(SCENARIO, directory, kept())
        core, volume = await _begun(trial)
        trial.world.revive()
        await core.fullness.round()
        points = list(trial.world.points)
        sizes = {p.data for m in trial.world.machines.values() for g in m.lvm.groups.values() for p in g.pools.values()}
        (size,) = sizes
        assert not _extended(trial, size)
        _by_hand_gone(trial)
        await core.volumes.delete(volume.id)
        without = traces(trial.world)
        await trial.end_life()
        return without, size, points
    finally:
        shutil.rmtree(directory)


async def _at(kept: type[State], point: int, life: str, without: dict[str, object], size: int) -> list[str]:
    directory = trial_directory()
    try:
        trial = Trial(SCENARIO, directory, kept())
        core, volume = await _begun(trial)
        trial.world.arm(point)
        with suppress(Crashed):
            await core.fullness.round()
        if not trial.world.crashed:
            return [f"point {point} was never reached"]
        await trial.end_life()
        core = await trial.begin_life()
        problems = []
        if life != "deleted":
            if life == "recovered":
                await core.recovery.look()
            await core.fullness.round()
            await core.recovery.look()
            problems += _extended(trial, size)
            problems += [f"open operation: {o.kind} {o.error}" for o in trial.inventory.operations.values()]
        _by_hand_gone(trial)
        with suppress(DriverError):
            await core.volumes.delete(volume.id)
        problems += trial.audit(without)
        if used := sum(trial.inventory.used.values()):
            problems.append(f"{used} bytes are still counted as used")
        await trial.end_life()
        return problems
    finally:
        shutil.rmtree(directory)


async def _run(kept: type[State]) -> tuple[str, int, list[str]]:
    without, size, points = await _reference(kept)
    problems = []
    chosen = list(tried(SCENARIO.name, points))
    for point, label in chosen:
        for life in LIVES:
            for problem in await _at(kept, point, life, without, size):
                problems.append(f"{SCENARIO.name}, point {point} ({label}), {life}: {problem}")
    return f"{SCENARIO.name}, state in {kept.name}", len(chosen), problems


def run() -> Iterator[tuple[str, int, list[str]]]:
    """Its name, how many points were tried, the problems; for each kind of state."""
    for kept in (SqliteState, CustomResources):
        yield asyncio.run(_run(kept))

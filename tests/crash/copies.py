"""Snapshots, restores, clones and groups: our process ended at every command and commit of each.

Besides leaks: what holds writers up must be over by itself when its time has passed, also if nobody ever comes back.
In one half of the trials the next life begins before that, in the other one after it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from csi import corewiring
from csi.core import naming, params
from csi.core.errors import DriverError
from csi.core.model import Source, SourceKind
from csi.hosts.simulated.world import Crashed, Fault, Kind
from csi.service.volumes import CreateRequest
from tests.crash.sampling import tried
from tests.crash.simulated import Scenario, Trial, trial_directory
from tests.crash.states import CustomResources, SqliteState, State
from tests.crash.traces import difference, held, traces

NAMES = ("pvc-a", "pvc-b")
SNAPSHOT, GROUP, COPY = "snapshot-crash", "group-crash", "pvc-copy"

Act = Callable[[corewiring.Core], Awaitable[object]]


def _request(name: str, source: Source | None = None, **more: str) -> CreateRequest:
    return CreateRequest(name, 0, 0, params.parse({"volumeType": "replicate:3", **more}).spec, source)


async def _volumes(core: corewiring.Core) -> None:
    for name in NAMES:
        await core.volumes.create(_request(name))


async def _take(core: corewiring.Core) -> None:
    await core.snapshots.create(SNAPSHOT, naming.volume_id(NAMES[0]))


async def _untake(core: corewiring.Core) -> None:
    await core.snapshots.delete(naming.snapshot_id(SNAPSHOT))


async def _restore(core: corewiring.Core) -> None:
    await core.volumes.create(_request(COPY, Source(SourceKind.SNAPSHOT, naming.snapshot_id(SNAPSHOT))))


async def _clone(core: corewiring.Core) -> None:
    await core.volumes.create(_request(COPY, Source(SourceKind.VOLUME, naming.volume_id(NAMES[0]))))


async def _regroup(core: corewiring.Core) -> None:
    source = Source(SourceKind.SNAPSHOT, naming.snapshot_id(SNAPSHOT))
    await core.volumes.create(_request(COPY, source, restoreGid="new"))


async def _regroup_clone(core: corewiring.Core) -> None:
    source = Source(SourceKind.VOLUME, naming.volume_id(NAMES[0]))
    await core.volumes.create(_request(COPY, source, restoreGid="new"))


async def _delete_source(core: corewiring.Core) -> None:
    await core.volumes.delete(naming.volume_id(NAMES[0]))


async def _take_group(core: corewiring.Core) -> None:
    await core.snapshots.create_group(GROUP, [naming.volume_id(name) for name in NAMES])


async def _untake_group(core: corewiring.Core) -> None:
    await core.snapshots.delete_group(naming.group_id(GROUP), [])


async def _delete_all(core: corewiring.Core) -> None:
    """Volumes first: nothing needs them any more."""
    for name in (COPY, *NAMES):
        await core.volumes.delete(naming.volume_id(name))
    await _untake(core)
    await _untake_group(core)


@dataclass(frozen=True, slots=True)
class Copies:
    """``before`` lays the ground. ``fault``: a command that fails, so that ``act`` has to be undone.

    ``device``: of each host; a pool on LVM that was enlarged for a copy stays so until it goes.
    """

    name: str
    before: tuple[Act, ...]
    act: Act
    fault: str = ""
    device: str = "/srv/d0"

    @property
    def pool(self) -> Scenario:
        return Scenario("", 3, "replicate:3", device=self.device)


_DISK = "/dev/vdb"

SCENARIOS = (
    Copies("snapshot", (_volumes,), _take),
    Copies("snapshot that fails when it is copied, and is undone", (_volumes,), _take, "csi_share*"),
    Copies("delete snapshot", (_volumes, _take), _untake),
    Copies("restore", (_volumes, _take), _restore),
    Copies("restore that fails at its start, and is undone", (_volumes, _take), _restore, "*volume start*"),
    Copies("restore with a group of its own", (_volumes, _take), _regroup),
    Copies("restore whose files can't be regrouped at first", (_volumes, _take), _regroup, "csi_regroup *"),
    Copies("clone", (_volumes,), _clone),
    Copies("clone with a group of its own", (_volumes,), _regroup_clone),
    Copies("clone that fails when it is copied, and is undone", (_volumes,), _clone, "csi_share*"),
    Copies("group snapshot", (_volumes,), _take_group),
    Copies("delete group snapshot", (_volumes, _take_group), _untake_group),
    Copies("snapshot on LVM", (_volumes,), _take, device=_DISK),
    Copies("snapshot on LVM that fails when it is copied, and is undone", (_volumes,), _take, "csi_lvm_copy *", _DISK),
    Copies("delete snapshot on LVM", (_volumes, _take), _untake, device=_DISK),
    Copies("restore on LVM", (_volumes, _take), _restore, device=_DISK),
    Copies(
        "restore on LVM that fails at its start, and is undone", (_volumes, _take), _restore, "*volume start*", _DISK
    ),
    Copies("clone on LVM", (_volumes,), _clone, device=_DISK),
    Copies("group snapshot on LVM", (_volumes,), _take_group, device=_DISK),
    Copies("delete source of a copy on LVM", (_volumes, _clone), _delete_source, device=_DISK),
)


async def _begun(trial: Trial, scenario: Copies) -> corewiring.Core:
    await trial.prepare()
    assert trial.core is not None
    for act in scenario.before:
        await act(trial.core)
    return trial.core


async def _act(trial: Trial, scenario: Copies) -> None:
    assert trial.core is not None
    if scenario.fault:
        trial.world.inject(Fault("*", scenario.fault, Kind.ERROR, times=100))
    with suppress(DriverError):
        await scenario.act(trial.core)


async def _reference(scenario: Copies, kept: type[State]) -> tuple[list[dict[str, object]], list[str]]:
    """The traces of an empty pool, and before and after the operation; the labels of its points."""
    directory = trial_directory()
    try:
        trial = Trial(scenario.pool, directory, kept())
        await trial.prepare()
        empty = traces(trial.world)
        assert trial.core is not None
        for act in scenario.before:
            await act(trial.core)
        before = traces(trial.world)
        trial.world.revive()
        await _act(trial, scenario)
        points = list(trial.world.points)
        trial.world.faults.clear()
        await scenario.act(trial.core)
        after = traces(trial.world)
        await _delete_all(trial.core)
        if leaks := trial.audit(empty):
            raise AssertionError(f"{scenario.name}: undisturbed, it leaves: " + "; ".join(leaks))
        await trial.end_life()
        return [empty, before, after], points
    finally:
        shutil.rmtree(directory)


async def try_point(
    scenario: Copies, kept: type[State], point: int, known: list[dict[str, object]], *, retry: bool, late: bool
) -> list[str]:
    """Crash at the point; ``late``: the next life begins when all that ends by itself has."""
    empty, before, after = known
    directory = trial_directory()
    try:
        trial = Trial(scenario.pool, directory, kept())
        await _begun(trial, scenario)
        trial.world.arm(point)
        with suppress(Crashed):
            await _act(trial, scenario)
        if not trial.world.crashed:
            return [f"point {point} was never reached"]
        await trial.end_life()
        problems = []
        if late:
            for machine in trial.world.machines.values():
                machine.pass_time()
            problems = [f"nobody came back, and {what}" for what in held(trial.world)]
        core = await trial.begin_life()
        if retry:
            await scenario.act(core)
            problems += [f"retried, {problem}" for problem in trial.audit(after)]
        else:
            await core.recovery.look()
            found = trial.audit(before)
            if found and (done := trial.audit(after)):
                problems += [f"before, {problem}" for problem in found] + [f"after, {problem}" for problem in done]
        # From wherever it is now, the ordinary way must lead on.
        await scenario.act(core)
        problems += [f"once more, {problem}" for problem in difference(after, traces(trial.world))]
        await _delete_all(core)
        problems += [f"in the end, {problem}" for problem in trial.audit(empty)]
        await trial.end_life()
        return problems
    finally:
        shutil.rmtree(directory)


def run() -> Iterator[tuple[str, int, list[str]]]:
    """For each scenario: its name, how many points were tried, the problems."""
    for kept in (SqliteState, CustomResources):
        for scenario in SCENARIOS:
            yield asyncio.run(_run(scenario, kept))


async def _run(scenario: Copies, kept: type[State]) -> tuple[str, int, list[str]]:
    known, points = await _reference(scenario, kept)
    problems = []
    chosen = list(tried(scenario.name, points))
    for point, label in chosen:
        # Where the points are as many again, and only the commits are others, every other one will do.
        for retry in (False, True) if kept is SqliteState else (bool(point % 2),):
            how = "retried" if retry else "recovered"
            try:
                found = await try_point(scenario, kept, point, known, retry=retry, late=bool((point // 2 + retry) % 2))
            except DriverError as error:
                found = [f"{type(error).__name__}: {error}"]
            problems += [f"{scenario.name}, point {point} ({label}), {how}: {problem}" for problem in found]
    return f"{scenario.name}, state in {kept.name}", len(chosen), problems

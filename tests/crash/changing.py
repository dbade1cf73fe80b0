"""An expansion or a modification over simulated hosts, ended at every command and commit: what the next life does.

Each point is tried with several next lives: its recovery acts by itself, the caller asks again, asks for less, or
deletes the volume. Before they do anything, the volume is looked at: it may be told as grown only if all its bricks
have grown, and as changed only if all its bricks are there.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from csi import corewiring
from csi.core import params, sizes
from csi.core.errors import DriverError
from csi.core.model import BrickRole, Volume
from csi.hosts.simulated.world import Crashed, World
from csi.service.expansion import ExpandRequest
from csi.service.modification import ModifyRequest
from csi.service.volumes import CreateRequest
from tests.crash.sampling import tried
from tests.crash.simulated import GIB, NAME, Scenario, Trial, trial_directory
from tests.crash.states import CustomResources, SqliteState, State
from tests.crash.traces import traces

SMALL, MIDDLE, LARGE = GIB, 2 * GIB, 4 * GIB
LIVES = ("recovered", "retried", "asked for less", "deleted")


@dataclass(frozen=True, slots=True)
class Change(Scenario):
    """``mutable``: what is modified; empty: the volume is expanded."""

    parameters: tuple[tuple[str, str], ...] = ()
    mutable: tuple[tuple[str, str], ...] = ()
    max_brick: int = 0  # so small that the volume needs further sets

    @property
    def lives(self) -> tuple[str, ...]:
        plain = not self.mutable and not self.max_brick
        return tuple(life for life in LIVES if plain or life != "asked for less")

    async def act(self, core: corewiring.Core, volume: Volume, size: int = LARGE) -> None:
        if self.mutable:
            await core.modification.modify(ModifyRequest(volume.id, self.mutable))
        else:
            await core.expansion.expand(ExpandRequest(volume.id, size, 0))

    def request(self) -> CreateRequest:
        spec = params.parse({"volumeType": self.volume_type, **dict(self.parameters)}).spec
        return CreateRequest(NAME, SMALL, 0, spec)


SCENARIOS = (
    Change("expand, replicate 3", 3, "replicate:3"),
    Change("expand, arbiter", 3, "replicate:3", parameters=(("arbiter", "true"),)),
    Change("expand, disperse 4+2", 6, "disperse:4:2"),
    Change("expand on LVM, replicate 3", 3, "replicate:3", device="/dev/vdb"),
    Change("expand by further sets", 3, "replicate:3", parameters=(("expansion", "addSets"),), max_brick=2 * GIB),
    Change("modify, options", 3, "replicate:3", mutable=(("volumeOptions", "performance.io-cache off"),)),
    Change("modify, a third copy", 3, "replicate:2", mutable=(("volumeType", "replicate:3"),)),
    Change("modify, an arbiter", 3, "replicate:2", mutable=(("arbiter", "true"),)),
)


def told(core: corewiring.Core, world: World) -> list[str]:
    """What is wrong with the size that each volume is told to have."""
    inventory = core.outside.store.inventory
    problems = []
    for volume in inventory.volumes.values():
        data: dict[int, int] = {}  # by set
        for brick in volume.bricks:
            machine = world.machines[inventory.hosts[brick.host_id].manage]
            mount = machine.mounts.get(brick.path.removesuffix("/brick"))
            image = mount.image or machine.blocks.get(mount.source) if mount is not None else None
            size = image.size if image is not None else 0
            if brick.role is BrickRole.DATA:
                data[brick.set] = min(sizes.usable_size(size), data.get(brick.set, size))
            if not inventory.operations and size != brick.size:
                problems.append(f"brick {brick.id} has {size} bytes, its record says {brick.size}")
        if volume.size > sum(data.values()) * volume.spec.durability.data:
            problems.append(f"half grown, and told to have {volume.size} bytes")
    return problems


class Trials:
    """All points of one scenario."""

    def __init__(self, scenario: Change, kept: type[State]) -> None:
        self._scenario = scenario
        self._kept = kept

    async def _begun(self, trial: Trial) -> tuple[corewiring.Core, Volume]:
        if self._scenario.max_brick:
            placement = trial.settings.placement.model_copy(update={"max_brick": self._scenario.max_brick})
            trial.settings = trial.settings.model_copy(update={"placement": placement})
        await trial.prepare()
        assert trial.core is not None
        return trial.core, await trial.core.volumes.create(self._scenario.request())

    async def reference(self) -> tuple[dict[str, object], dict[str, object], list[str]]:
        """The traces without the volume and with the large one, and the labels of all points of the change."""
        directory = trial_directory()
        try:
            trial = Trial(self._scenario, directory, self._kept())
            core, volume = await self._begun(trial)
            trial.world.revive()
            await self._scenario.act(core, volume)
            points = list(trial.world.points)
            await core.recovery.look()  # which closes what gluster has done meanwhile
            large = traces(trial.world)
            await core.volumes.delete(volume.id)
            without = traces(trial.world)
            await trial.end_life()
        finally:
            shutil.rmtree(directory)
        return without, large, points

    async def at(self, point: int, life: str, without: dict[str, object], large: dict[str, object]) -> list[str]:
        directory = trial_directory()
        try:
            trial = Trial(self._scenario, directory, self._kept())
            core, volume = await self._begun(trial)
            trial.world.arm(point)
            with suppress(Crashed):
                await self._scenario.act(core, volume)
            if not trial.world.crashed:
                return [f"point {point} was never reached"]
            await trial.end_life()
            core = await trial.begin_life()
            problems = told(core, trial.world)
            match life:
                case "recovered":
                    await core.recovery.look()
                case "retried":
                    await self._scenario.act(core, volume)
                case "asked for less":
                    await self._scenario.act(core, volume, MIDDLE)
                case _:
                    with suppress(DriverError):
                        await core.volumes.delete(volume.id)
                    problems += trial.audit(without)
                    await trial.end_life()
                    return problems
            await core.recovery.look()
            problems += told(core, trial.world)
            if core.outside.store.inventory.operations:
                problems.append("an operation is still open")
            # From wherever it is now, the ordinary way must lead on.
            await self._scenario.act(core, volume)
            await core.recovery.look()
            problems += [*told(core, trial.world), *trial.audit(large)]
            await core.volumes.delete(volume.id)
            problems += trial.audit(without)
            if used := sum(core.outside.store.inventory.used.values()):
                problems.append(f"{used} bytes are still counted as used")
            await trial.end_life()
            return problems
        finally:
            shutil.rmtree(directory)

    async def run(self) -> tuple[str, int, list[str]]:
        without, large, points = await self.reference()
        problems = []
        chosen = list(tried(self._scenario.name, points))
        for point, label in chosen:
            for life in self._scenario.lives:
                for problem in await self.at(point, life, without, large):
                    problems.append(f"{self._scenario.name}, point {point} ({label}), {life}: {problem}")
        return f"{self._scenario.name}, state in {self._kept.name}", len(chosen), problems


def run() -> Iterator[tuple[str, int, list[str]]]:
    """For each scenario: its name, how many points were tried, the problems."""
    for scenario in SCENARIOS:
        yield asyncio.run(Trials(scenario, SqliteState).run())
    for scenario in SCENARIOS:
        # What differs is where a commit can be cut in two, and there are two kinds of these.
        if scenario.name in ("expand, replicate 3", "modify, a third copy"):
            yield asyncio.run(Trials(scenario, CustomResources).run())

"""Resources that people write: the controller ended at every point of taking them up, and of letting them go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from csi.core import naming
from csi.core.model import Availability
from csi.hosts.simulated.world import Crashed, World
from csi.kubernetes.api import Answer, Body
from csi.store.kube.kinds import FINALIZER, KINDS
from tests.api_double import ApiDouble, Server
from tests.crash.states import CrashingApi
from tests.crash.traces import difference, traces
from tests.keeping import DoubleHand, Life, hosts, pool

_NUMBERS = (1, 2)
_SECONDS = 120


class _Writes(CrashingApi):
    """What is told of what happened is no point: it may be lost."""

    async def request(self, method: str, path: str, query: object = None, body: Body | None = None) -> Answer:
        if "/events" in path or path.endswith("/status"):
            self._world.check_life(self._life)
            return await ApiDouble.request(self, method, path, query, body)  # type: ignore[arg-type]
        return await super().request(method, path, query, body)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    deletes: bool
    path: str = "/srv/d0"  # of the device of each host


SCENARIOS = (
    Scenario("take up 2 hosts and their devices", False),
    Scenario("let go of them", True),
    Scenario("take up 2 hosts and their disks", False, "/dev/vdb"),
    Scenario("let go of them, and give the disks back", True, "/dev/vdb"),
)


class Trial:
    def __init__(self, path: str) -> None:
        self.path = path
        self.world: World = hosts(len(_NUMBERS))
        if path.startswith("/dev/"):
            for number in _NUMBERS:
                self.world.machines[f"h{number}"].add_disk(path, 20 << 30)
        self.server = Server()
        self.hand = DoubleHand(self.server)
        self.life: Life | None = None

    async def begin_life(self) -> Life:
        self.life = Life(self.world, lambda: _Writes(self.server, self.world), speed=500.0)
        return await self.life.begin()

    async def end_life(self) -> None:
        assert self.life is not None
        self.world.crashed = True
        with suppress(Crashed):
            await self.life.end()
        self.world.revive()

    async def until(self, settled: Callable[[], bool]) -> bool:
        """False if it crashed before."""
        async with asyncio.timeout(_SECONDS):
            while not (settled() or self.world.crashed):
                await asyncio.sleep(0.001)
        return not self.world.crashed

    def is_taken_up(self) -> bool:
        assert self.life is not None
        devices = self.life.inventory.devices
        return all(naming.device_id(naming.host_id(f"h{number}"), self.path) in devices for number in _NUMBERS)

    def is_let_go(self) -> bool:
        """And no disk carries anything of ours."""
        if any(machine.lvm.physical for machine in self.world.machines.values()):
            return False
        return not any(self.server.at(kind.path, self.server.revision) for kind in KINDS)

    async def apply(self) -> None:
        await self.hand.apply(*pool(_NUMBERS, self.path))

    async def delete(self) -> None:
        await self.hand.delete("GlusterCluster", "main")
        for number in _NUMBERS:
            await self.hand.delete("GlusterHost", f"storage-{number}")
            await self.hand.delete("GlusterDevice", f"disk-{number}")

    def problems(self, expected: dict[str, object]) -> list[str]:
        """Of a pool that is taken up, and whose hosts should be as ``expected``."""
        assert self.life is not None
        found = difference(expected, traces(self.world))
        for kind in KINDS:
            resources = self.server.at(kind.path, self.server.revision)
            records = getattr(self.life.inventory, kind.table)
            if len(resources) != len(records):
                found.append(f"{len(resources)} {kind.plural} for {len(records)} records")
            found += [
                f"{kind.name} {one['metadata']['name']} has no finalizer"
                for one in resources
                if kind.by_people and one["metadata"].get("finalizers") != [FINALIZER]
            ]
        if any(device.state is not Availability.ONLINE for device in self.life.inventory.devices.values()):
            found.append("a device is closed off")
        return found


async def _undisturbed(scenario: Scenario) -> tuple[list[str], dict[str, object]]:
    """The labels of all points, and the hosts when the pool is taken up."""
    trial = Trial(scenario.path)
    await trial.begin_life()
    await trial.apply()
    await trial.until(trial.is_taken_up)
    taken_up = traces(trial.world)
    if scenario.deletes:
        trial.world.revive()
        await trial.delete()
        await trial.until(trial.is_let_go)
    points = list(trial.world.points)
    await trial.end_life()
    return points, taken_up


async def try_point(scenario: Scenario, point: int, taken_up: dict[str, object]) -> list[str]:
    """Crash at the point, begin anew, see it brought to its end; then the other way once more.

    What goes on side by side does not take the same order each time: now and then the last points come no more.
    """
    trial = Trial(scenario.path)
    await trial.begin_life()
    if scenario.deletes:
        await trial.apply()
        await trial.until(trial.is_taken_up)
    trial.world.arm(point)
    settled = trial.is_let_go if scenario.deletes else trial.is_taken_up
    await (trial.delete() if scenario.deletes else trial.apply())
    await trial.until(settled)
    await trial.end_life()
    await trial.begin_life()
    await trial.until(settled)
    if scenario.deletes:
        await trial.apply()
        await trial.until(trial.is_taken_up)
    problems = trial.problems(taken_up)
    await trial.delete()
    await trial.until(trial.is_let_go)
    # A directory keeps its mark, a disk keeps nothing.
    blank = {name: value for name, value in taken_up.items() if "vg_" not in name}
    problems += [f"let go, {problem}" for problem in difference(blank, traces(trial.world))]
    await trial.end_life()
    return problems


def run() -> Iterator[tuple[str, int, list[str]]]:
    """For each scenario: its name, how many points were tried, the problems."""
    for scenario in SCENARIOS:
        points, taken_up = asyncio.run(_undisturbed(scenario))
        problems = []
        for point, label in enumerate(points):
            try:
                found = asyncio.run(try_point(scenario, point, taken_up))
            except TimeoutError:
                found = ["it did not come to its end"]
            problems += [f"{scenario.name}, point {point} ({label}): {problem}" for problem in found]
        yield scenario.name, len(points), problems

"""The service over simulated hosts, ended at every command and every commit, and what its next life makes of that."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from csi import config, corewiring
from csi.bricks.filecopies import FileCopies
from csi.bricks.lvmcopies import LvmCopies
from csi.clock import SystemClock
from csi.core import params, topologyfile
from csi.core.errors import DriverError
from csi.core.inventory import Inventory
from csi.core.model import Backend, SnapshotState
from csi.gluster.adapter import GlusterCli
from csi.hosts.contacts import Contacts, HeardRunner
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Crashed, Fault, Kind, World
from csi.service.volumes import CreateRequest
from tests.crash.states import CustomResources, SqliteState, State
from tests.crash.traces import difference, traces

GIB = 1 << 30
NAME = "pvc-crash"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One operation whose every point is tried."""

    name: str
    hosts: int
    volume_type: str
    deletes: bool = False
    fault: str = ""  # a command that fails, so that the creation has to be undone
    device: str = "/srv/d0"  # of each host; below /dev its bricks are LVM's

    def request(self) -> CreateRequest:
        spec = params.parse({"volumeType": self.volume_type, "volumeOptions": "performance.io-cache off"}).spec
        return CreateRequest(NAME, 2 * GIB, 0, spec)


SCENARIOS = (
    Scenario("create, replicate 3", 3, "replicate:3"),
    Scenario("create, disperse 4+2", 6, "disperse:4:2"),
    Scenario("create that fails at its start and is undone, replicate 3", 3, "replicate:3", fault="*volume start*"),
    Scenario("delete, replicate 3", 3, "replicate:3", deletes=True),
    Scenario("delete, disperse 4+2", 6, "disperse:4:2", deletes=True),
    Scenario("create on LVM, replicate 3", 3, "replicate:3", device="/dev/vdb"),
    Scenario("create on LVM that fails at its start", 3, "replicate:3", fault="*volume start*", device="/dev/vdb"),
    Scenario("delete on LVM, replicate 3", 3, "replicate:3", deletes=True, device="/dev/vdb"),
)


class Trial:
    """A pool, a state, and the lives of the driver that follow each other on them."""

    def __init__(self, scenario: Scenario, directory: Path, state: State) -> None:
        self.scenario = scenario
        self.state = state
        self.directory = directory
        self.world = World()
        self.world.glusterd = SimulatedGlusterd(self.world)
        nodes = []
        for number in range(scenario.hosts):
            address = f"10.0.0.{number + 1}"
            lvm = scenario.device.startswith("/dev/")
            devices = () if lvm else (scenario.device,)
            machine = self.world.add(f"h{number + 1}", address, devices=devices, size=100 * GIB)
            if lvm:
                machine.add_disk(scenario.device, 100 * GIB)
            names = {"manage": [f"h{number + 1}"], "storage": [address]}
            nodes.append({"node": {"hostnames": names, "zone": number + 1}, "devices": [scenario.device]})
        self.topology = topologyfile.parse(json.dumps({"clusters": [{"nodes": nodes}]}))
        self.settings = config.load(
            None,
            {
                "GLUSTER_CSI_GIDS__REST_SECONDS": "0",
                "GLUSTER_CSI_RECOVERY__GRACE": "0",
                "GLUSTER_CSI_RECOVERY__FIRST": "0.001",
            },
        )
        self.core: corewiring.Core | None = None

    async def begin_life(self) -> corewiring.Core:
        contacts = Contacts()
        runner = HeardRunner(SimulatedRunner(self.world), contacts)
        outside = corewiring.Outside(
            store=self.state.store(self.directory, self.world),
            runner=runner,
            gluster=GlusterCli(runner, SystemClock(), heard=contacts),
            backends={
                Backend.FILE: FileCopies(runner, self.settings.instance),
                Backend.LVM: LvmCopies(runner, self.settings.instance),
            },
            clock=SystemClock(),
            contacts=contacts,
        )
        self.core = corewiring.wire(outside, self.settings)
        await outside.store.open()
        return self.core

    async def end_life(self) -> None:
        """As the end of a process does it: nothing gets to clean up."""
        assert self.core is not None
        self.world.crashed = True
        await self.core.operations.stop(0)
        with suppress(Crashed):
            await self.core.outside.gluster.close()
        with suppress(Crashed):
            await self.core.outside.runner.close()
        await self.core.outside.store.close()
        self.world.revive()
        self.world.faults.clear()

    async def prepare(self) -> None:
        core = await self.begin_life()
        async for progress in core.topology.load(self.topology):
            if progress.failed:
                raise AssertionError(progress.line)
        if self.scenario.deletes:
            await core.volumes.create(self.scenario.request())

    async def act(self) -> None:
        """The operation itself, as a caller asks for it."""
        assert self.core is not None
        if self.scenario.fault:
            self.world.inject(Fault("*", self.scenario.fault, Kind.ERROR, times=100))
        if self.scenario.deletes:
            volume = self.core.volumes.list("", 0).volumes
            await self.core.volumes.delete(volume[0].id if volume else "0" * 32)
        else:
            with suppress(DriverError):
                await self.core.volumes.create(self.scenario.request())

    def audit(self, expected: dict[str, object]) -> list[str]:
        assert self.core is not None
        problems = difference(expected, traces(self.world))
        problems += [f"open operation: {o.kind} {o.direction} {o.error}" for o in self.inventory.operations.values()]
        snapshots = self.inventory.snapshots.values()
        problems += [f"snapshot {s.name} {s.state}" for s in snapshots if s.state is not SnapshotState.READY]
        return problems

    @property
    def inventory(self) -> Inventory:
        assert self.core is not None
        return self.core.outside.store.inventory

    def has_volume(self) -> bool:
        return len(self.inventory.volumes) > 0


def trial_directory() -> Path:
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="gluster-csi-crash-", dir=shm if shm.is_dir() else None))


async def reference(scenario: Scenario, kept: type[State]) -> tuple[dict[str, object], dict[str, object], list[str]]:
    """The traces without and with the volume, and the labels of all points of the undisturbed operation."""
    directory = trial_directory()
    try:
        trial = Trial(replace(scenario, deletes=False, fault=""), directory, kept())
        await trial.prepare()
        without = traces(trial.world)
        assert trial.core is not None
        volume = await trial.core.volumes.create(scenario.request())
        with_volume = traces(trial.world)
        await trial.core.volumes.delete(volume.id)
        leaks = trial.audit(without)
        if leaks:
            raise AssertionError("an undisturbed create and delete leaves: " + "; ".join(leaks))
        await trial.end_life()
    finally:
        shutil.rmtree(directory)
    directory = trial_directory()
    try:
        trial = Trial(scenario, directory, kept())
        await trial.prepare()
        trial.world.revive()
        await trial.act()
        points = list(trial.world.points)
        await trial.end_life()
    finally:
        shutil.rmtree(directory)
    return without, with_volume, points


async def try_point(
    scenario: Scenario,
    kept: type[State],
    point: int,
    *,
    retry: bool,
    without: dict[str, object],
    with_volume: dict[str, object],
) -> list[str]:
    """Crash at the point; let the next life recover, by its timer or by a retry; compare hosts and records."""
    directory = trial_directory()
    try:
        trial = Trial(scenario, directory, kept())
        await trial.prepare()
        trial.world.arm(point)
        with suppress(Crashed):
            await trial.act()
        if not trial.world.crashed:
            return [f"point {point} was never reached"]
        await trial.end_life()
        core = await trial.begin_life()
        if retry:
            if scenario.deletes:
                await core.volumes.delete(_id_of(scenario))
            else:
                await core.volumes.create(scenario.request())
        else:
            await core.recovery.look()
        problems = trial.audit(with_volume if trial.has_volume() else without)
        if retry and trial.has_volume() == scenario.deletes:
            problems.append("the retry did not bring it about")
        # From wherever it is now, the ordinary way must lead on.
        volume = await core.volumes.create(scenario.request())
        problems += trial.audit(with_volume)
        await core.volumes.delete(volume.id)
        problems += trial.audit(without)
        await trial.end_life()
        return problems
    finally:
        shutil.rmtree(directory)


def _id_of(scenario: Scenario) -> str:
    from csi.core import naming

    return naming.volume_id(scenario.request().name)


def run() -> Iterator[tuple[str, int, list[str]]]:
    """For each scenario: its name, how many points were tried, the problems."""
    for kept in (SqliteState, CustomResources):
        for scenario in SCENARIOS:
            yield asyncio.run(_run(scenario, kept))


async def _run(scenario: Scenario, kept: type[State]) -> tuple[str, int, list[str]]:
    without, with_volume, points = await reference(scenario, kept)
    problems = []
    for point, label in enumerate(points):
        for retry in (False, True):
            how = "retried" if retry else "recovered"
            for problem in await try_point(
                scenario, kept, point, retry=retry, without=without, with_volume=with_volume
            ):
                problems.append(f"{scenario.name}, point {point} ({label}), {how}: {problem}")
    return f"{scenario.name}, state in {kept.name}", len(points), problems

"""Controllers that follow each other on the same state and hosts, and what the earlier one left under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from csi import config, corewiring
from csi.bricks.filecopies import FileCopies
from csi.core import params
from csi.core.errors import Busy, DriverError
from csi.core.model import Backend, Direction, Operation, OperationKind, Volume
from csi.gluster.adapter import GlusterCli
from csi.hosts.mandate import Mandate
from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.glusterd_answers import Counts, SimulatedVolume
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import Fault, Kind, World
from csi.service.volumes import CreateRequest
from csi.store.memory import MemoryStore
from tests.crash.traces import difference, traces
from tests.unit.service.conftest import topology

GIB = 1 << 30
SETTLE = 180.0


class Hands:
    """A clock that only the test moves; sleeping moves nothing, and others get their turn."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.001)


class Line:
    """The controllers one after the other: one store, one world, a term each."""

    def __init__(self) -> None:
        self.world = World()
        self.glusterd = SimulatedGlusterd(self.world)
        self.world.glusterd = self.glusterd
        for number in range(1, 4):
            self.world.add(f"h{number}", f"10.0.0.{number}", devices=("/srv/d0",), size=20 * GIB)
        self.store = MemoryStore()
        self.hands = Hands()
        self.told: list[str] = []
        environ = {
            "GLUSTER_CSI_GIDS__REST_SECONDS": "0",
            "GLUSTER_CSI_RECOVERY__GRACE": "0",
            "GLUSTER_CSI_RECOVERY__SETTLE": str(SETTLE),
        }
        self.settings = config.load(None, environ)
        self.cores: list[corewiring.Core] = []

    async def controller(self, term: int) -> corewiring.Core:
        """The next one begins to lead."""
        runner = SimulatedRunner(self.world, lambda: Mandate("default", term, f"holder-{term}"))

        async def tell(message: str) -> None:
            self.told.append(message)

        outside = corewiring.Outside(
            store=self.store,
            runner=runner,
            gluster=GlusterCli(runner, self.hands),
            backends={Backend.FILE: FileCopies(runner, self.settings.instance)},
            clock=self.hands,
            term=lambda: term,
            tell=tell,
        )
        await self.store.open()
        core = corewiring.wire(outside, self.settings)
        core.succession.begin()
        self.cores.append(core)
        return core

    def operations(self) -> tuple[Operation, ...]:
        return tuple(self.store.inventory.operations.values())

    async def create(self, core: corewiring.Core, name: str = "pvc") -> Volume:
        return await core.volumes.create(CreateRequest(name, GIB, 0, params.parse({}).spec))

    async def break_off(self, core: corewiring.Core, command: str, act: Callable[[], asyncio.Future[object]]) -> None:
        """The controller dies while this command is under way, which has no effect."""
        fault = self.world.inject(Fault("*", command, Kind.HANG))
        acting = act()
        while not fault.struck:
            await asyncio.sleep(0.001)
        await core.operations.stop(0)
        with pytest.raises((DriverError, asyncio.CancelledError)):
            await acting


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    for core in line.cores:
        await core.outside.gluster.close()
        await core.outside.runner.close()


async def with_half_a_creation(line: Line) -> dict[str, object]:
    """Term 3 died in the middle of a creation. What the hosts held before it."""
    old = await line.controller(3)
    failed = [p.line async for p in old.topology.load(topology(line.world)) if p.failed]
    assert not failed
    empty = traces(line.world)
    await line.break_off(old, "*volume create*", lambda: asyncio.ensure_future(line.create(old)))
    return empty


def lands_late(line: Line, volume: Volume) -> None:
    """glusterd carries out a creation that it was given long ago: its bricks are gone meanwhile."""
    hosts = [line.store.inventory.hosts[brick.host_id] for brick in volume.bricks]
    bricks = tuple((host.storage, brick.path) for host, brick in zip(hosts, volume.bricks, strict=True))
    made = SimulatedVolume(volume.gluster_name, "u" * 32, bricks, Counts(3, 3))
    line.glusterd._pool(line.world.machines["h1"]).add(made, [host.manage for host in hosts])


async def test_what_an_earlier_controller_began_is_undone_at_once_and_kept_in_mind(line: Line) -> None:
    empty = await with_half_a_creation(line)
    new = await line.controller(4)
    await new.recovery.look()
    assert difference(empty, traces(line.world)) == []
    (operation,) = line.operations()
    assert operation.direction is Direction.BACK
    line.hands.seconds += SETTLE - 1
    await new.recovery.look()
    assert line.operations() == (operation,)
    line.hands.seconds += 2
    await new.recovery.look()
    assert line.operations() == ()
    assert new.succession.late == 0
    assert line.told == []


async def test_what_appears_late_is_undone_and_told(line: Line) -> None:
    empty = await with_half_a_creation(line)
    new = await line.controller(4)
    await new.recovery.look()
    (operation,) = line.operations()
    lands_late(line, operation.volume)
    line.hands.seconds += SETTLE + 1
    await new.recovery.look()
    assert line.operations() == ()
    assert difference(empty, traces(line.world)) == []
    assert line.glusterd._pool(line.world.machines["h1"]).volumes == {}
    assert new.succession.late == 1
    (message,) = line.told
    assert f"Gluster volume {operation.volume.gluster_name}" in message
    assert "term 3" in message


async def test_a_controller_that_dies_before_the_second_look_leaves_it_to_the_next(line: Line) -> None:
    empty = await with_half_a_creation(line)
    await (await line.controller(4)).recovery.look()
    (operation,) = line.operations()
    lands_late(line, operation.volume)
    last = await line.controller(5)
    await last.recovery.look()
    assert len(line.operations()) == 1
    line.hands.seconds += SETTLE + 1
    await last.recovery.look()
    assert line.operations() == ()
    assert difference(empty, traces(line.world)) == []
    assert line.glusterd._pool(line.world.machines["h1"]).volumes == {}


async def test_the_name_can_be_used_again_after_the_second_look(line: Line) -> None:
    await with_half_a_creation(line)
    new = await line.controller(4)
    await new.recovery.look()
    with pytest.raises(Busy, match=r"once more in 180 s"):
        await line.create(new)
    line.hands.seconds += SETTLE + 1
    volume = await line.create(new)
    assert dict(line.store.inventory.volumes) == {volume.id: volume}
    assert line.operations() == ()


async def test_a_creation_that_is_asked_for_again_does_not_wait(line: Line) -> None:
    await with_half_a_creation(line)
    new = await line.controller(4)
    volume = await line.create(new)
    assert dict(line.store.inventory.volumes) == {volume.id: volume}
    assert line.operations() == ()


async def test_a_failure_of_our_own_is_closed_at_once(line: Line) -> None:
    new = await line.controller(4)
    failed = [p.line async for p in new.topology.load(topology(line.world)) if p.failed]
    assert not failed
    line.world.inject(Fault("*", "*volume start*", Kind.ERROR, times=100))
    with pytest.raises(DriverError):
        await line.create(new)
    assert line.operations() == ()


async def test_a_deletion_of_an_earlier_controller_is_done_twice(line: Line) -> None:
    old = await line.controller(3)
    failed = [p.line async for p in old.topology.load(topology(line.world)) if p.failed]
    assert not failed
    empty = traces(line.world)
    volume = await line.create(old)
    await line.break_off(old, "*volume delete*", lambda: asyncio.ensure_future(old.volumes.delete(volume.id)))
    new = await line.controller(4)
    with pytest.raises(Busy, match="is deleted"):
        await new.volumes.delete(volume.id)
    assert difference(empty, traces(line.world)) == []
    assert [operation.kind for operation in line.operations()] == [OperationKind.DELETE]
    with pytest.raises(Busy):
        await line.create(new)
    line.hands.seconds += SETTLE + 1
    await new.recovery.look()
    assert line.operations() == ()
    assert not line.store.inventory.volumes


async def test_every_host_is_visited_also_one_that_comes_back_later(line: Line) -> None:
    old = await line.controller(3)
    failed = [p.line async for p in old.topology.load(topology(line.world)) if p.failed]
    assert not failed
    machines = [line.world.machines[f"h{number}"] for number in (1, 2, 3)]
    machines[2].shut_down()
    new = await line.controller(4)
    visiting = asyncio.create_task(new.succession.visit(lambda: line.store.inventory))
    while [machine.terms["default"][0] for machine in machines] != [4, 4, 3]:
        await asyncio.sleep(0.001)
    assert not visiting.done()
    machines[2].boot()
    await asyncio.wait_for(visiting, 10)
    assert [machine.terms["default"][0] for machine in machines] == [4, 4, 4]


async def test_without_terms_nobody_is_visited(line: Line) -> None:
    only = await line.controller(0)
    await asyncio.wait_for(only.succession.visit(lambda: line.store.inventory), 20)

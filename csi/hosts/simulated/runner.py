"""``ports.Runner`` and ``ports.Channel`` over a simulated world.

Before and after each command lies a checkpoint of the world; faults are looked up for each command. A runner
belongs to the life of our process in which it was made: when that has crashed, every call through it, also one that
was waiting, raises ``Crashed``, and never does anything again.

A host obeys the highest term that it met: what a connection of a lower one would do next, it does not do any more.
From here the end of a session looks no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable, Superseded
from csi.core.model import Host
from csi.hosts.mandate import Mandate, Mandated, nobody
from csi.hosts.simulated import (
    barriers,
    brickverbs,
    copyverbs,
    glusterd_answers,
    lvmcopyverbs,
    lvmverbs,
    programs,
    regroupverbs,
)
from csi.hosts.simulated.block_programs import BLOCK_PROGRAMS
from csi.hosts.simulated.glusterd_answers import BARRIER_DONE
from csi.hosts.simulated.lvm_programs import LVM_PROGRAMS
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import PROGRAMS, failed
from csi.hosts.simulated.world import Fault, Kind, World

_PROGRAMS = {
    **PROGRAMS,
    **brickverbs.VERBS,
    **copyverbs.COPY_VERBS,
    **lvmverbs.VERBS,
    **lvmcopyverbs.VERBS,
    **BLOCK_PROGRAMS,
    **LVM_PROGRAMS,
}
_SKIPPED = Result(0, skipped=True)
_WELCOME = "Welcome to gluster prompt, type 'help' to see the available commands.\n"


class _Connection:
    """A way to one machine, for one life of ours, one boot of the machine and one term."""

    def __init__(self, world: World, host: Host, mandate: Mandate | None = None) -> None:
        machine = world.machines.get(host.manage)
        if machine is None:
            raise HostUnreachable(host.manage, "there is no such host")
        self.world = world
        self.host = host.manage
        self.machine = machine
        self.boot = machine.boots
        self.life = world.life
        self.broken = "" if machine.up else "no route to host"
        self.mandate = mandate

    def check(self) -> None:
        """Raises: Crashed, HostUnreachable."""
        self._check_machine()
        if self.mandate is not None and self.mandate.term < self._obeyed(self.mandate):
            self.broken = "the shell ended"
            raise HostUnreachable(self.host, self.broken)

    def _check_machine(self) -> None:
        self.world.check_life(self.life)
        if not self.broken and not (self.machine.up and self.machine.boots == self.boot):
            self.broken = "the connection was lost"
        if self.broken:
            raise HostUnreachable(self.host, self.broken)

    def _obeyed(self, mandate: Mandate) -> int:
        return self.machine.terms.get(mandate.instance, (0, ""))[0]

    def _enter(self, mandate: Mandate) -> None:
        mine = mandate.term, mandate.holder
        obeyed = self.machine.terms.get(mandate.instance, (0, mandate.holder))
        if mandate.term < obeyed[0] or (mandate.term == obeyed[0] and mine != obeyed):
            raise Superseded(self.host, mandate.refusal(obeyed[0]), obeyed[0])
        self.machine.terms[mandate.instance] = mine

    def checkpoint(self, when: str, what: str) -> None:
        self.check()
        if self.world.recording:
            self.world.checkpoint(f"{self.machine.name}: {when} {what}")

    def drop(self) -> HostUnreachable:
        self.broken = "the connection was lost"
        return HostUnreachable(self.host, self.broken)

    async def arrive(self) -> None:
        """One way to the machine, and into it. Raises: Superseded, and as ``check``."""
        self._check_machine()
        await self.world.sleep(self.world.latency.round_trip)
        self._check_machine()
        if self.mandate is not None:
            self._enter(self.mandate)

    async def wait(self, seconds: float) -> None:
        await self.world.sleep(seconds)
        self.check()


class SimulatedRunner:
    """Reaches the machines of a world by their manage names."""

    def __init__(self, world: World, mandate: Mandated = nobody) -> None:
        self._world = world
        self._mandate = mandate
        self._life = world.life
        self._channels: set[SimulatedChannel] = set()
        self._closed = False

    def _connect(self, host: Host) -> _Connection:
        self._world.check_life(self._life)
        if self._closed:
            raise HostUnreachable(host.manage, "the runner is closed")
        return _Connection(self._world, host, self._mandate())

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        connection = self._connect(host)
        # Also without latency: others get their turn, and the caller can be cancelled here.
        await connection.arrive()
        spent = 0.0
        results = []
        for command in script.commands:
            if (fault := self._fault(connection, command)) is not None and fault.kind is Kind.HANG:
                await self._time_out(connection, command, script.timeout, spent)
            takes = self._world.latency.command
            if command.argv[0] == "sleep":
                takes += float(command.argv[1])
            if takes:
                if spent + takes > script.timeout:
                    await self._time_out(connection, command, script.timeout, spent)
                spent += takes
                await connection.wait(takes)
            if self._closed:
                raise HostUnreachable(host.manage, "the runner is closed")
            result = self._execute(connection, command, fault)
            results.append(result)
            if not result.skipped and result.status not in command.ok:
                raise CommandFailed(host.manage, command.argv, result.status, result.stderr)
        return tuple(results)

    def _fault(self, connection: _Connection, command: Command) -> Fault | None:
        return self._world.fault_for(connection.machine, command.argv) if self._world.faults else None

    async def _time_out(self, connection: _Connection, command: Command, timeout: float, spent: float) -> None:
        await connection.wait(timeout - spent)
        raise CommandTimeout(connection.host, command.argv, timeout)

    def _execute(self, connection: _Connection, command: Command, fault: Fault | None) -> Result:
        name = command.argv[0]
        connection.checkpoint("before", name)
        machine = connection.machine
        if command.unless and self._call(machine, command.unless, "").status == 0:
            return _SKIPPED
        if fault is not None and fault.kind is Kind.DROP_BEFORE:
            raise connection.drop()
        if fault is not None and fault.kind is Kind.ERROR:
            result = Result(fault.status, stderr=fault.stderr)
        else:
            result = self._call(machine, command.argv, command.stdin)
        if fault is not None and fault.kind is Kind.DROP_AFTER:
            raise connection.drop()
        connection.checkpoint("after", name)
        return result

    def _call(self, machine: Machine, argv: Sequence[str], stdin: str) -> Result:
        name = argv[0]
        program = self._world.programs.get(name) or _PROGRAMS.get(name)
        if program is not None:
            return programs.run(program, machine, argv, stdin)
        match name:
            case "sleep":
                return Result(0)
            case "gluster":
                return self._gluster(machine, [word for word in argv[1:] if not word.startswith("--")])
            case "csi_barrier_watch" | "csi_barrier_unwatch":
                return barriers.run(self._world, machine, argv)
            case "csi_regroup" | "csi_regroup_end":
                return regroupverbs.run(self._world, machine, argv)
            case "csi_end_bricks":
                if self._world.glusterd is not None:
                    self._world.glusterd.end_bricks(machine, argv[1])
                return Result(0)
        return failed(127, f"{name}: not found")

    def _gluster(self, machine: Machine, words: list[str]) -> Result:
        if self._world.glusterd is None:
            return Result(1, "Connection failed. Please check if gluster daemon is operational.\n")
        try:
            document = self._world.glusterd.answer(machine, words)
        except ValueError as error:
            return Result(1, f"{error}\n")
        return Result(0 if "<opRet>0</opRet>" in document or document == BARRIER_DONE else 1, document)

    async def open(self, host: Host, argv: Sequence[str]) -> SimulatedChannel:
        connection = self._connect(host)
        await connection.arrive()
        if argv[0] not in ("gluster", "cat"):
            raise HostUnreachable(host.manage, f"{argv[0]}: not found")
        channel = SimulatedChannel(self, connection, tuple(argv))
        self._channels.add(channel)
        return channel

    def answer(self, connection: _Connection, line: str, fault: Fault | None) -> str:
        """What the long-lived gluster prints for a line that it is given."""
        connection.checkpoint("before", f"gluster {line}")
        if fault is not None and fault.kind is Kind.DROP_BEFORE:
            raise connection.drop()
        if fault is not None and fault.kind is Kind.ERROR:
            text = glusterd_answers.document(-1, fault.status, fault.stderr)
        else:
            text = self._gluster(connection.machine, line.split()).stdout
        if fault is not None and fault.kind is Kind.DROP_AFTER:
            raise connection.drop()
        connection.checkpoint("after", f"gluster {line}")
        return text

    def forget(self, channel: SimulatedChannel) -> None:
        self._channels.discard(channel)

    async def close(self) -> None:
        self._closed = True
        for channel in tuple(self._channels):
            await channel.close()


class SimulatedChannel:
    """A long-lived ``gluster --mode=script --xml``, or ``cat``."""

    def __init__(self, runner: SimulatedRunner, connection: _Connection, argv: tuple[str, ...]) -> None:
        self._runner = runner
        self._connection = connection
        self._argv = argv
        self._input = b""
        self._output = _WELCOME.encode() if argv[0] == "gluster" else b""
        self._hangs = False
        self._news = asyncio.Event()

    async def write(self, data: bytes) -> None:
        self._connection.check()
        if self._argv[0] == "cat":
            self._output += data
            self._news.set()
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._take(line.decode())

    def _take(self, line: str) -> None:
        """One command. A connection that breaks on it is noticed by who reads the answer."""
        connection = self._connection
        world = connection.world
        fault = world.fault_for(connection.machine, ("gluster", line)) if world.faults else None
        if self._hangs or (fault is not None and fault.kind is Kind.HANG):
            self._hangs = True
            return
        try:
            self._output += self._runner.answer(connection, line, fault).encode()
        except HostUnreachable as error:
            connection.broken = error.reason
        self._news.set()

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        world = self._connection.world
        await self._connection.world.sleep(world.latency.round_trip + world.latency.command)
        try:
            async with asyncio.timeout(timeout):
                while end not in self._output:
                    self._connection.check()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise CommandTimeout(self._connection.host, self._argv, timeout) from None
        self._connection.world.check_life(self._connection.life)
        at = self._output.index(end) + len(end)
        if at > limit:
            raise HostUnreachable(self._connection.host, f"{self._argv[0]} answered more than {limit} bytes")
        answer, self._output = self._output[:at], self._output[at:]
        return answer

    async def close(self) -> None:
        self._connection.broken = self._connection.broken or "the channel is closed"
        self._news.set()
        self._runner.forget(self)

"""Simulated hosts, their network, the faults that are put into them, and the moment at which *we* crash.

How the parts fit together:

- ``World.machines`` maps every address (manage and storage names) to its ``Machine``.
- ``programs.py`` gives each argument vector its effect on a machine; a program is
  ``Callable[[Machine, Sequence[str], str], Result]`` (machine, argv, stdin). ``World.programs`` adds some, or replaces.
- Blank disks (``Machine.add_disk``) and the logical volumes on them (``lvm.py``, ``lvm_programs.py``) are the
  ``BlockDevice`` values of ``Machine.blocks``; ``block_programs.py`` formats and mounts them.
- ``glusterd.py`` sets ``world.glusterd`` to something that fulfils ``Glusterd`` below. ``programs.py`` calls
  ``answer`` for ``gluster --mode=script --xml WORDS...`` (alone, or a line of the long-lived one) and
  ``end_bricks`` for the verb that ends a volume's brick processes; ``World`` calls ``booted`` after a reboot.
- It finds on a ``Machine``: ``is_directory(path)``, ``on_root(path)`` (no mount at or above it), ``xattrs(path)`` (a
  mapping to change), ``spawn(name, argv, cwd) -> Process``, ``kill(pid)``, ``processes`` (by pid), ``users_of(mount)``,
  ``mount_of(path)``, ``up``; and on the world ``machines`` and ``reachable(a, b)``.
- A brick process is ``machine.spawn("glusterfsd", ("glusterfsd", "--volfile-id", ...), cwd=BRICK DIRECTORY)``:
  while it runs, its brick cannot be unmounted.
"""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from csi.hosts.simulated.filesystem import FileSystem
from csi.hosts.simulated.machine import GIB, Machine
from csi.hosts.simulated.programs import Program


class Crashed(BaseException):
    """Our own process is dead at this point. No ``except Exception`` may stop it."""


class Glusterd(Protocol):
    """The glusterds of all machines of a world."""

    def answer(self, machine: Machine, words: list[str]) -> str:
        """What ``gluster --mode=script --xml WORDS`` prints on ``machine``: an XML document, as from glusterd."""

    def end_bricks(self, machine: Machine, volume: str) -> int:
        """End the volume's brick processes on ``machine``; how many there were."""

    def booted(self, machine: Machine) -> None:
        """The machine is up again: glusterd starts, and the bricks of its started volumes."""


class Kind(Enum):
    """What goes wrong with a command."""

    ERROR = "error"  # it fails with a status and does nothing
    HANG = "hang"  # it does nothing and does not end
    DROP_BEFORE = "drop before"  # the connection breaks before it had an effect
    DROP_AFTER = "drop after"  # ... after it had its effect, before its result was heard


@dataclass(slots=True)
class Fault:
    """``command`` is a shell pattern over the words of a command joined by spaces; ``nth`` counts its matches from 1.

    It strikes ``times`` times from the nth match on. ``struck`` says how often it did.
    """

    host: str
    command: str
    kind: Kind
    nth: int = 1
    times: int = 1
    status: int = 1
    stderr: str = "injected"
    seen: int = 0
    struck: int = 0

    def strikes(self, machine: Machine, line: str) -> bool:
        if not (fnmatch.fnmatchcase(machine.name, self.host) and fnmatch.fnmatchcase(line, self.command)):
            return False
        self.seen += 1
        if self.nth <= self.seen < self.nth + self.times:
            self.struck += 1
            return True
        return False


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds: of a round trip to a host, and of each command on it."""

    round_trip: float = 0.0
    command: float = 0.0


class World:
    """The hosts and what can happen to them. Not ``recording``: checkpoints are passed without a note."""

    def __init__(
        self,
        latency: Latency = Latency(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        recording: bool = True,
    ) -> None:
        self.recording = recording
        self.machines: dict[str, Machine] = {}
        self.glusterd: Glusterd | None = None
        self.latency = latency
        self.sleep = sleep
        self.faults: list[Fault] = []
        self.cuts: set[frozenset[str]] = set()
        self.points: list[str] = []  # the labels of all checkpoints passed
        self.crashed = False
        self.life = 0
        self.programs: dict[str, Program] = {}
        self._armed: int | None = None

    def add(self, name: str, *addresses: str, devices: Sequence[str] = (), size: int = 500 * GIB) -> Machine:
        """A new host with a disk of ``size`` bytes mounted at each path of ``devices``, in its fstab too."""
        machine = Machine(name, (name, *addresses))
        for address in machine.addresses:
            if address in self.machines:
                raise ValueError(f"two hosts with the address {address!r}")
            self.machines[address] = machine
        lines = [machine.read(machine.fstab)]
        for number, path in enumerate(devices):
            disk = f"/dev/disk{number}"
            machine.disks[disk] = FileSystem("xfs", size)
            machine.make_directory(path, parents=True)
            machine.mount_line(disk, path, "noatime")
            lines.append(f"{disk} {path} xfs noatime,nofail 0 0\n")
        machine.write(machine.fstab, "".join(lines))
        machine.when_booted.append(self._booted)
        return machine

    def _booted(self, machine: Machine) -> None:
        if self.glusterd is not None:
            self.glusterd.booted(machine)

    # --- the network ---

    def reachable(self, a: Machine, b: Machine) -> bool:
        """Whether two machines, both up, hear each other."""
        return a.up and b.up and frozenset((a.name, b.name)) not in self.cuts

    def cut(self, a: str, b: str) -> None:
        self.cuts.add(frozenset((self.machines[a].name, self.machines[b].name)))

    def heal(self) -> None:
        """End all cuts."""
        self.cuts.clear()

    # --- faults ---

    def inject(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def fault_for(self, machine: Machine, argv: Sequence[str]) -> Fault | None:
        """The first fault that strikes this command; every fault counts it."""
        if not self.faults:
            return None
        line = " ".join(argv)
        struck = [fault for fault in self.faults if fault.strikes(machine, line)]
        return struck[0] if struck else None

    # --- our own crash ---

    def checkpoint(self, label: str) -> None:
        """A place at which our process may end. Runners pass one before and after each command.

        Raises: Crashed at the armed place, and everywhere from then on.
        """
        if self.crashed:
            raise Crashed(label)
        self.points.append(label)
        if self._armed is not None and len(self.points) > self._armed:
            self.crashed = True
            raise Crashed(label)

    def arm(self, point: int) -> None:
        """Crash at the ``point``-th checkpoint from now, counted from 0. The record of points starts anew."""
        self.points.clear()
        self._armed = point

    def revive(self) -> None:
        """Nothing is armed and no point recorded. After a crash: a new process of ours begins, with a new runner."""
        self.life += self.crashed
        self.crashed = False
        self._armed = None
        self.points.clear()

    def check_life(self, life: int) -> None:
        """Raises: Crashed for something that was made in a life that is over."""
        if self.crashed or life != self.life:
            raise Crashed("in an earlier life")

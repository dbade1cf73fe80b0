"""What the glusterds of simulated peers know in common, and how one says no."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from csi.hosts.simulated.glusterd_answers import SimulatedVolume
from csi.hosts.simulated.machine import Machine

FAILED = 30800  # glusterd's EG_INTRNL, which stands for nearly everything


class RefusedError(Exception):
    """glusterd says no."""

    def __init__(self, text: str, errno: int = FAILED) -> None:
        super().__init__(text)
        self.errno = errno


def _above(path: str) -> Iterable[str]:
    """The directories above a path, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


@dataclass(eq=False)
class TrustedPool:
    """Members by name, and volumes. A peer that was away has caught up by the time that it is asked again."""

    members: dict[str, Machine] = field(default_factory=dict)
    volumes: dict[str, SimulatedVolume] = field(default_factory=dict)
    _bricks: set[tuple[str, str]] = field(default_factory=set)  # (machine, path)
    _above: dict[tuple[str, str], int] = field(default_factory=dict)  # how many bricks lie below

    def is_taken(self, machine: str, path: str) -> bool:
        """A brick of a volume lies there, above it or below it."""
        return (machine, path) in self._above or any((machine, p) in self._bricks for p in (path, *_above(path)))

    def add(self, volume: SimulatedVolume, machines: Sequence[str]) -> None:
        """``machines[i]`` has ``volume.bricks[i]``."""
        self.volumes[volume.name] = volume
        for machine, (_, path) in zip(machines, volume.bricks, strict=True):
            self.claim(machine, path)

    def claim(self, machine: str, path: str) -> None:
        """A brick of a volume lies there now."""
        self._bricks.add((machine, path))
        for directory in _above(path):
            self._above[machine, directory] = self._above.get((machine, directory), 0) + 1

    def remove(self, volume: SimulatedVolume, machines: Sequence[str]) -> None:
        del self.volumes[volume.name]
        for machine, (_, path) in zip(machines, volume.bricks, strict=True):
            self._bricks.discard((machine, path))
            for directory in _above(path):
                self._above[machine, directory] -= 1
                if not self._above[machine, directory]:
                    del self._above[machine, directory]


def uuid_of(machine: Machine) -> str:
    """The same in every life of the machine."""
    return _uuid_of(machine.name)


@functools.cache
def _uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))

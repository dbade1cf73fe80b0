"""``Mounter`` in memory: a node whose clients die, hang and are busy on demand.

It keeps the promises of the real one (``tests/contract/mounts`` holds both to them) and ships with the
package, so that whoever builds on the port can test without root.
"""

from __future__ import annotations

import asyncio
import itertools
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from csi.core.errors import MountFailed
from csi.mountports import MountSource, MountState, Usage

_OPTIONS = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime"}
_PLAIN = {"rw", "suid", "dev", "exec", "atime", "diratime", "bind"}
_LOOKS = 50  # hundredths of a second


class Health(Enum):
    WELL = "well"
    AWAY = "away"  # the client runs, all bricks are down
    SILENT = "silent"  # the client hangs
    DEAD = "dead"  # the client has ended


_REASONS = {
    Health.WELL: "",
    Health.AWAY: "Transport endpoint is not connected",
    Health.SILENT: "no answer within 1 s",
    Health.DEAD: "Transport endpoint is not connected",
}


@dataclass(slots=True)
class SimulatedClient:
    """A superblock and the process that serves it."""

    source: MountSource
    device: str
    health: Health = Health.WELL
    files: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Mount:
    client: SimulatedClient
    options: tuple[str, ...]


class SimulatedMounter:
    """``directories`` maps each directory to the names in it; ``volumes`` can be mounted."""

    def __init__(self, volumes: Sequence[str], latency: float = 0.0) -> None:
        self.volumes = set(volumes)
        self.directories: dict[str, set[str]] = {"/": set()}
        self.busy: set[str] = set()  # paths whose unmount fails while their client is well
        self.failing: dict[str, str] = {}  # verb -> why its next call fails
        self.latency = latency
        self.gate: asyncio.Event | None = None  # mounts wait for it
        self._mounts: dict[str, list[_Mount]] = {}
        self._devices = itertools.count(50)

    # --- for tests ----------------------------------------------------------------------------

    def client(self, path: str) -> SimulatedClient:
        """Of what is mounted at ``path``."""
        return self._mounts[path][-1].client

    @property
    def clients(self) -> int:
        """How many run."""
        every = {id(m.client): m.client for stack in self._mounts.values() for m in stack}
        return sum(client.health is not Health.DEAD for client in every.values())

    @property
    def mounted(self) -> dict[str, int]:
        """How many mounts lie on each other at each path."""
        return {path: len(stack) for path, stack in self._mounts.items()}

    # --- the port -----------------------------------------------------------------------------

    async def mount(self, source: MountSource, target: str) -> None:
        await self._act("mount", target)
        if self.gate is not None:
            await self.gate.wait()
        self._needs_directory(target)
        if source.volume not in self.volumes:
            raise MountFailed(f"volume {source.volume} at {target}: the servers know no volume {source.volume}")
        if stack := self._mounts.get(_path(target)):
            there = stack[-1].client
            if there.source.volume == source.volume and there.health is Health.WELL:
                return
            raise MountFailed(f"volume {source.volume} at {target}: {there.source.volume} is mounted there already")
        client = SimulatedClient(source, f"0:{next(self._devices)}")
        options = ("ro" if source.read_only else "rw", "relatime")
        self._mounts.setdefault(_path(target), []).append(_Mount(client, options))

    async def bind(self, source: str, target: str, options: Sequence[str]) -> None:
        await self._act("bind", target)
        if unknown := [option for option in options if option not in _OPTIONS | _PLAIN]:
            raise MountFailed(f"bind mount at {target}: unknown option {unknown[0]!r}")
        self._needs_directory(target)
        stack = self._mounts.get(_path(source))
        if not stack:
            raise MountFailed(f"bind mount of {source} at {target} failed: ENOENT (No such file or directory)")
        asked = [option for option in options if option in _OPTIONS]
        access = () if "ro" in asked else ("rw",)
        atime = () if {"noatime", "strictatime", "relatime"} & set(asked) else ("relatime",)
        self._mounts.setdefault(_path(target), []).append(
            replace(stack[-1], options=(*access, *dict.fromkeys(asked), *atime))
        )

    async def unmount(self, target: str) -> None:
        await self._act("unmount", target)
        path = _path(target)
        while stack := self._mounts.get(path):
            if stack[-1].client.health is Health.WELL and not await self._let_go(path):
                raise MountFailed(f"{path} cannot be unmounted: EBUSY (Device or resource busy): a process uses it")
            stack.pop()
            if not stack:
                del self._mounts[path]

    async def _let_go(self, path: str) -> bool:
        """Whoever uses it may only have had a look."""
        for _ in range(_LOOKS):
            if path not in self.busy:
                return True
            await asyncio.sleep(0.01)
        return path not in self.busy

    async def inspect(self, target: str) -> MountState | None:
        await self._act("inspect", target)
        stack = self._mounts.get(_path(target))
        if not stack:
            return None
        client = stack[-1].client
        well, used = client.health is Health.WELL, len(client.files)
        return MountState(
            source=f"{client.source.servers[0]}:/{client.source.volume}",
            fstype="fuse.glusterfs",
            device=client.device,
            options=stack[-1].options,
            alive=well,
            usage=Usage(1 << 30, used << 12, (1 << 30) - (used << 12), 1000, used, 1000 - used) if well else None,
            reason=_REASONS[client.health],
            dead=client.health is Health.DEAD,
        )

    async def mounts_of(self, device: str, apart_from: Sequence[str] = ()) -> tuple[str, ...]:
        await self._act("mounts_of", device)
        left_out = {_path(path) for path in apart_from}
        return tuple(
            path
            for path, stack in self._mounts.items()
            if path not in left_out and any(mount.client.device == device for mount in stack)
        )

    async def make_directory(self, path: str) -> bool:
        await self._act("make_directory", path)
        path = _path(path)
        if path in self.directories:
            if held := self.directories[path]:
                raise MountFailed(f"directory {path} is not mounted and not empty ({sorted(held)[0]!r})")
            return False
        parent, name = posixpath.split(path)
        if parent not in self.directories:
            await self.make_directory(parent)
        self.directories[parent].add(name)
        self.directories[path] = set()
        return True

    async def remove_directory(self, path: str) -> None:
        await self._act("remove_directory", path)
        path = _path(path)
        if path in self._mounts:
            raise MountFailed(f"{path} is still a mount point, so it was not removed")
        if path not in self.directories:
            return
        if held := self.directories[path]:
            raise MountFailed(f"directory {path} is not mounted and not empty ({sorted(held)[0]!r})")
        del self.directories[path]
        parent, name = posixpath.split(path)
        self.directories[parent].discard(name)

    async def close(self) -> None: ...

    async def _act(self, verb: str, subject: str) -> None:
        await asyncio.sleep(self.latency)
        if reason := self.failing.pop(verb, ""):
            raise MountFailed(f"{verb} {subject}: {reason}")

    def _needs_directory(self, target: str) -> None:
        if _path(target) not in self.directories:
            raise MountFailed(f"{target}: ENOENT (No such file or directory)")


def _path(path: str) -> str:
    return posixpath.normpath(path)

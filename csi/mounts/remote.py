"""``Clients`` behind a Unix socket: the daemon ``gluster-csi mounts`` holds them, in a container of its own.

So they live on when this process ends, or its container is replaced. Mounts that the daemon makes reach this
mount namespace by propagation; this side waits until it sees them. Requests can be repeated: one whose connection
broke, since the daemon was restarted, is sent again until ``patience`` is over.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from csi.core import mountcalls
from csi.core.errors import DriverError, MountFailed, Unavailable
from csi.core.mountcalls import Abandon, Call, End, Fault, Reply, Request, Runs, Source, Start
from csi.mountports import MountSource
from csi.mounts import appearing, mountinfo
from csi.mounts.detached import is_of
from csi.mounts.probe import Probes
from csi.mounts.unmounting import FSTYPE

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_LOOKS, _ENDS = 20.0, 30.0  # seconds for the calls that mount nothing
_APPEARS = 10.0  # seconds; propagation is part of the mount itself and takes none
_ON_THE_WAY = 2.0  # seconds that an answer may take beyond the time that the daemon was given


class RemoteClients:
    """``timeout``: seconds for a mount; ``patience``: seconds in which a daemon that is away should be back."""

    def __init__(self, socket: str | Path, probes: Probes, timeout: float = 90.0, patience: float = 10.0) -> None:
        self._socket = Path(socket)
        self._probes = probes
        self._timeout = timeout
        self._patience = patience

    async def start(self, source: MountSource, target: str) -> None:
        wire = Source(source.servers, source.volume, source.ping_timeout, source.flags, source.read_only)
        try:
            await self._ask(Start(wire, target), self._timeout + self._probes.timeout)
        except asyncio.CancelledError:
            # It may have been done just before: then nothing is under way that a closed connection could give up.
            await self._abandon(source.volume, target)
            raise
        try:
            await self._see(source, target)
        except BaseException:
            await self._abandon(source.volume, target)
            raise

    async def _abandon(self, volume: str, target: str) -> None:
        with suppress(DriverError):
            await self._ask(Abandon(volume, target), _ENDS)

    async def runs(self, targets: Collection[str]) -> bool:
        return (await self._ask(Runs(tuple(targets)), _LOOKS)).runs

    async def end(self, volume: str, target: str, device: str, *, silent: bool = False) -> None:
        await self._ask(End(volume, target, device, silent), _ENDS)

    async def _see(self, source: MountSource, target: str) -> None:
        try:
            entry = await appearing.wait_for(
                target, lambda entry: entry.fstype == FSTYPE and is_of(entry.source, source), _APPEARS
            )
        except TimeoutError:
            raise MountFailed(
                f"volume {source.volume} was mounted at {target} by the daemon behind {self._socket}, but is not seen "
                "here: both containers need that directory with mount propagation (Bidirectional)"
            ) from None
        if mountinfo.is_hidden(mountinfo.read(), entry):
            raise MountFailed(f"volume {source.volume} at {target} is hidden by a mount over a directory above it")
        if reason := (await self._probes.ask(entry)).reason:
            raise MountFailed(f"volume {source.volume} at {target} is mounted, but does not answer here: {reason}")

    async def _ask(self, call: Call, seconds: float) -> Reply:
        """Raises: MountFailed with the daemon's text, Unavailable."""
        loop = asyncio.get_running_loop()
        request = Request(mountcalls.VERSION, secrets.token_hex(6), seconds, call)
        try:
            frame = mountcalls.frame(request)
        except ValueError as error:
            raise MountFailed(f"the mount cannot be asked for: {error}") from error
        over, pause = loop.time() + self._patience, _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(seconds + _ON_THE_WAY):
                    return _checked(await self._exchange(frame))
            except TimeoutError:
                raise MountFailed(f"the mounts daemon behind {self._socket} gave no answer in {seconds:g} s") from None
            except (OSError, EOFError, ValueError) as error:
                if loop.time() + pause > over:
                    raise Unavailable(
                        f"the mounts daemon behind {self._socket} is away ({error}): mounts that are there go on, new "
                        "ones wait until the pod with 'gluster-csi mounts' runs on this node"
                    ) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _exchange(self, frame: bytes) -> Reply:
        """A connection for each request: closing it is how the request is given up."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(frame)
            await writer.drain()
            size = mountcalls.length(await reader.readexactly(mountcalls.HEADER))
            return mountcalls.read_reply(await reader.readexactly(size))
        finally:
            writer.close()


def _checked(reply: Reply) -> Reply:
    if reply.fault is not None:
        raise _error(reply.fault)
    return reply


def _error(fault: Fault) -> DriverError:
    match fault.kind:
        case mountcalls.FAILED:
            return MountFailed(fault.text)
        case mountcalls.UNAVAILABLE:
            return Unavailable(fault.text)
        case _:
            return MountFailed(f"the mounts daemon refused the request: {fault.text}")

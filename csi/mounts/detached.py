"""``Clients`` started by this process. Each makes a daemon of itself and outlives it.

``mount -t glusterfs`` is a shell script that costs three times as much as the client that it starts. The
client's exit status alone is not believed: it is 0 also for a mount option that the kernel refused, and for a
volume none of whose bricks runs. So success is what mountinfo says, and a ``statfs`` that was answered.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from pathlib import Path

import structlog

from csi.core.errors import MountFailed
from csi.mountports import MountSource
from csi.mounts import blocking, mountinfo, processes, unmounting
from csi.mounts.client import Client, Process
from csi.mounts.mountinfo import MountEntry
from csi.mounts.probe import Probes
from csi.mounts.unmounting import FSTYPE

_log = structlog.get_logger(__name__)

_CLIENT_ENDS = 5.0  # seconds; after its unmount it takes some milliseconds
_SIGNAL_ACTS = 2.0


class DetachedClients:
    """``log_dir`` holds a log and a pid file for each client, ``mount_timeout`` is in seconds.

    Nothing is remembered: what runs and what is mounted is read from the kernel each time.
    """

    def __init__(self, log_dir: str | Path, probes: Probes, mount_timeout: float = 90.0) -> None:
        self._directory = Path(log_dir).absolute()
        self._mount_timeout = mount_timeout
        self._probes = probes
        self._timeout = probes.timeout

    async def start(self, source: MountSource, target: str) -> None:
        client = Client(self._directory, source.volume, target)
        if await self._confirmed(source, client):
            return
        try:
            await self._mount(source, client)
        except BaseException:
            await self._abandon(client)
            raise

    async def runs(self, targets: Collection[str]) -> bool:
        return await blocking.promptly(lambda: processes.has_client(targets), self._timeout)

    async def end(self, volume: str, target: str, device: str, *, silent: bool = False) -> None:
        # Where somebody else unmounted it, in a namespace whose unmounts do not reach this one, it is still here.
        for _ in range(unmounting.MOST_STACKED):
            entry = unmounting.at(target)
            if entry is None or entry.device != device:
                break
            await unmounting.detach(target, self._timeout)
        if mountinfo.paths_of(mountinfo.read(), device):
            return
        client = Client(self._directory, volume, target)
        with client.process() as process:
            if process is not None:
                await self._end(client, process, device, _SIGNAL_ACTS if silent else _CLIENT_ENDS)
            elif client.pid_file.exists():  # the client removes it itself, unless it crashed
                client.forget(log=False)
            else:
                await client.end_all(_CLIENT_ENDS)
                client.forget(log=True)

    async def abandon(self, volume: str, target: str) -> None:
        await self._abandon(Client(self._directory, volume, target))

    async def _confirmed(self, source: MountSource, client: Client) -> bool:
        """Whether just this client is at work already. Raises: MountFailed if another mount is in its place."""
        entry = unmounting.at(client.target)
        if entry is None or entry.fstype != FSTYPE:
            return False
        reason = "another client"
        if volume_of(entry) == source.volume and client.serves(source):
            reason = (await self._probes.ask(entry)).reason
        if reason:
            raise MountFailed(
                f"{_what(source, client)}: {entry.source} is mounted there already ({reason}): unmount it first"
            )
        return True

    async def _mount(self, source: MountSource, client: Client) -> None:
        what = _what(source, client)
        # Also of a process that was killed while it mounted: its client may be about to mount, without a pid file yet.
        if client.may_run() and (stuck := await client.end_all(_SIGNAL_ACTS)):
            raise MountFailed(f"{what}: an earlier client, process {stuck[0]}, cannot be ended")
        logged = await blocking.promptly(client.prepare, self._timeout)

        def failed(reason: str) -> MountFailed:
            complaints = client.complaints(logged)
            said = f"; the client said: {complaints}" if complaints else ""
            return MountFailed(f"{what}: {reason}{said} (log: {client.log})")

        try:
            status, early = await client.start(source, self._mount_timeout)
        except TimeoutError:
            raise failed(f"the client did not come up within {self._mount_timeout:g} s") from None
        if status != 0:
            raise failed(_meaning(status, source) + (f"; {early}" if early else ""))
        entry = unmounting.at(client.target)
        if entry is None or entry.fstype != FSTYPE or not is_of(entry.source, source):
            shown = "nothing" if entry is None else f"{entry.source} ({entry.fstype})"
            raise failed(f"the client started, but {shown} is mounted there")
        if mountinfo.is_hidden(mountinfo.read(), entry):
            raise failed("mounted, but hidden by another mount over a directory above it")
        answer = await self._probes.ask(entry)
        if answer.reason:
            raise failed(f"mounted, but it does not answer: {answer.reason}")
        client.confirm()

    async def _abandon(self, client: Client) -> None:
        """Leave nothing of a mount that did not come up; the log stays.

        Processes first: the one that was killed may have forked a daemon that has no pid file yet, and that one a
        child that is about to mount.
        """
        if stuck := await client.end_all(_SIGNAL_ACTS):
            _log.warning("a client of a failed mount cannot be ended", pids=stuck, target=client.target)
        for _ in range(unmounting.MOST_STACKED):
            if (entry := unmounting.at(client.target)) is None or entry.fstype != FSTYPE:
                break
            await unmounting.detach(client.target, self._timeout)
        client.forget(log=False)

    async def _end(self, client: Client, process: Process, device: str, patience: float) -> None:
        """The client ends by itself when its last mount goes; wait for that, so that nothing is left."""
        if await process.gone(patience):
            client.forget(log=True)
        elif await blocking.promptly(lambda: processes.is_mounted_anywhere(device), self._timeout):
            # A container that has the directory above among its mounts; the client ends when that does.
            _log.warning("client runs on: its mount is held elsewhere", pid=process.pid, target=client.target)
        elif await process.end(_SIGNAL_ACTS):
            client.forget(log=False)
            _log.warning("client hung after its unmount and was ended", pid=process.pid, target=client.target)
        else:
            _log.error("client hangs and cannot be ended", pid=process.pid, target=client.target)


def is_of(mounted: str, source: MountSource) -> bool:
    """Whether ``SERVER:/VOLUME`` as mountinfo has it is this volume. The client names the first server it was given."""
    server, _, volume = mounted.partition(":/")
    return volume == source.volume and server in source.servers


def volume_of(entry: MountEntry) -> str:
    return entry.source.rpartition(":/")[2].replace("/", "-") or "-"


def _what(source: MountSource, client: Client) -> str:
    return f"volume {source.volume} from {', '.join(source.servers)} at {client.target}"


def _meaning(status: int, source: MountSource) -> str:
    """The client's exit statuses as they were seen; it has no list of them."""
    match status:
        case errno.ENOENT:
            return f"the servers know no volume {source.volume}"
        case errno.ENOTCONN:
            return "no server answered on glusterd's port 24007"
        case _ if status < 0:
            return f"the client was ended by signal {-status}"
        case _:
            return f"the client ended with status {status}"

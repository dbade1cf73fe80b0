"""``Mounter`` on this machine: GlusterFS clients started directly, bind mounts by system calls.

``mount -t glusterfs`` is a shell script that costs three times as much as the client that it starts. The
client's exit status alone is not believed: it is 0 also for a mount option that the kernel refused, and for a
volume none of whose bricks runs. So success is what mountinfo says, and a ``stat`` that was answered.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from csi.core.errors import MountFailed
from csi.mounts import blocking, directories, mountinfo, processes, syscalls
from csi.mounts.client import Client, Process
from csi.mounts.mountinfo import MountEntry
from csi.mounts.probe import Probes
from csi.ports import MountSource, MountState

_log = structlog.get_logger(__name__)

FSTYPE = "fuse.glusterfs"

_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
    "strictatime": syscalls.MS_STRICTATIME,
}
# These say what is so without any flag.
_NO_FLAG = {"rw", "suid", "dev", "exec", "atime", "diratime", "bind"}

_MOST_STACKED = 64
_CLIENT_ENDS = 5.0  # seconds; after its unmount it takes some milliseconds
_SIGNAL_ACTS = 2.0

T = TypeVar("T")


class GlusterMounter:
    """``log_dir`` holds a log and a pid file for each client. Times in seconds."""

    def __init__(self, log_dir: str | Path, mount_timeout: float = 90.0, stat_timeout: float = 15.0) -> None:
        self._directory = Path(log_dir).absolute()
        self._mount_timeout = mount_timeout
        self._timeout = stat_timeout
        self._probes = Probes(stat_timeout)

    async def close(self) -> None:
        """End the processes that wait for questions. Mounts and their clients stay."""
        await self._probes.close()

    async def mount(self, source: MountSource, target: str) -> None:
        """A GlusterFS client of its own at ``target``; returns when it is seen to be alive. Raises: MountFailed."""
        path = await self._local(lambda: directories.resolve(target))
        client = Client(self._directory, source.volume, path)
        try:
            await self._mount(source, client)
        except BaseException:
            await self._abandon(client)
            raise

    async def _mount(self, source: MountSource, client: Client) -> None:
        what = f"volume {source.volume} from {', '.join(source.servers)} at {client.target}"
        with client.process() as leftover:
            if leftover is not None and not await leftover.end(_SIGNAL_ACTS):
                raise MountFailed(f"{what}: an earlier client, process {leftover.pid}, cannot be ended")
        logged = await self._local(client.prepare)

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
        entry = self._at(client.target)
        if entry is None or entry.fstype != FSTYPE or not is_of(entry.source, source):
            shown = "nothing" if entry is None else f"{entry.source} ({entry.fstype})"
            raise failed(f"the client started, but {shown} is mounted there")
        if mountinfo.is_hidden(mountinfo.read(), entry):
            raise failed("mounted, but hidden by another mount over a directory above it")
        answer = await self._probes.ask(entry)
        if answer.reason:
            raise failed(f"mounted, but it does not answer: {answer.reason}")

    async def _abandon(self, client: Client) -> None:
        """Leave nothing of a mount that did not come up; the log stays.

        Processes first: the one that was killed may have forked a daemon that has no pid file yet, and that one a
        child that is about to mount.
        """
        if stuck := await client.end_all(_SIGNAL_ACTS):
            _log.warning("a client of a failed mount cannot be ended", pids=stuck, target=client.target)
        for _ in range(_MOST_STACKED):
            if (entry := self._at(client.target)) is None or entry.fstype != FSTYPE:
                break
            await self._detach(client.target)
        client.forget(log=False)

    async def bind(self, source: str, target: str, options: Sequence[str]) -> None:
        """Bind ``source`` at ``target`` with the per-mount ``options`` (ro, nosuid, ...). Raises: MountFailed."""
        if unknown := [option for option in options if option not in _FLAGS and option not in _NO_FLAG]:
            raise MountFailed(f"bind mount at {target}: unknown option {unknown[0]!r}")
        flags = 0
        for option in options:
            flags |= _FLAGS.get(option, 0)

        def act() -> None:
            syscalls.mount(source, target, syscalls.MS_BIND)
            if flags:
                # The kernel takes the flags of a bind mount in a second call only.
                try:
                    syscalls.mount(source, target, syscalls.MS_REMOUNT | syscalls.MS_BIND | flags)
                except OSError:
                    syscalls.umount(target, syscalls.MNT_DETACH)
                    raise

        try:
            await self._local(act)
        except OSError as error:
            raise MountFailed(f"bind mount of {source} at {target} failed: {_named(error)}") from error
        try:
            origin, path = await self._local(lambda: (directories.resolve(source), directories.resolve(target)))
            self._check_bound(origin, path)
        except BaseException:
            await self._detach(target)
            raise

    @staticmethod
    def _check_bound(source: str, target: str) -> None:
        """By what the kernel lists; it asks the file system nothing, so it can't hang."""
        entries = mountinfo.read()
        there, origin = mountinfo.top(entries, target), mountinfo.top(entries, source)
        if there is None or mountinfo.is_hidden(entries, there):
            raise MountFailed(f"bind mount of {source} at {target} is hidden by a mount over a directory above it")
        if origin is not None and origin.device != there.device:
            raise MountFailed(f"bind mount of {source} at {target} shows {there.source}, not {origin.source}")

    async def unmount(self, target: str) -> None:
        """Unmount whatever is at ``target``, dead or alive; nothing there is fine. Raises: MountFailed (busy)."""
        path = await self._local(lambda: directories.resolve(target))
        for _ in range(_MOST_STACKED):
            entry = self._at(path)
            if entry is None:
                return
            client = Client(self._directory, _volume(entry), path)
            with client.process() as process:
                silent = await self._unmount(entry)
                if process is not None and not mountinfo.paths_of(mountinfo.read(), entry.device):
                    await self._end(client, process, entry.device, _SIGNAL_ACTS if silent else _CLIENT_ENDS)
        raise MountFailed(f"{path} is still mounted after {_MOST_STACKED} unmounts")

    async def _unmount(self, entry: MountEntry) -> bool:
        """True if the file system did not answer and was taken out of the way."""
        try:
            await blocking.call(lambda: syscalls.umount(entry.path), self._timeout)
        except TimeoutError:
            pass
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):  # gone meanwhile
                return False
            # A process that stands in the mount of a dead client keeps it busy.
            answer = await self._probes.ask(entry)
            if error.errno != errno.EBUSY or not answer.reason:
                raise MountFailed(
                    f"{entry.path} ({entry.source}) cannot be unmounted: {_named(error)}: a process uses it; "
                    f"'fuser -vm {entry.path}' tells which"
                ) from error
        else:
            return False
        await self._detach(entry.path)
        return True

    async def _detach(self, path: str) -> None:
        try:
            await self._local(lambda: syscalls.umount(path, syscalls.MNT_DETACH))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise MountFailed(f"{path} cannot be unmounted: {_named(error)}") from error

    async def _end(self, client: Client, process: Process, device: str, patience: float) -> None:
        """The client ends by itself when its last mount goes; wait for that, so that nothing is left."""
        if await process.gone(patience):
            client.forget(log=True)
        elif await self._local(lambda: processes.is_mounted_anywhere(device)):
            # A container that has the directory above among its mounts; the client ends when that does.
            _log.warning("client runs on: its mount is held elsewhere", pid=process.pid, target=client.target)
        elif await process.end(_SIGNAL_ACTS):
            client.forget(log=False)
            _log.warning("client hung after its unmount and was ended", pid=process.pid, target=client.target)
        else:
            _log.error("client hangs and cannot be ended", pid=process.pid, target=client.target)

    async def inspect(self, target: str) -> MountState | None:
        """None if nothing is mounted exactly at ``target``."""
        path = await self._local(lambda: directories.resolve(target))
        entry = self._at(path)
        if entry is None:
            return None
        answer = await self._probes.ask(entry)
        return MountState(
            source=entry.source,
            fstype=entry.fstype,
            device=entry.device,
            options=entry.options,
            alive=not answer.reason,
            usage=answer.usage,
            reason=answer.reason,
            dead=bool(answer.reason) and not answer.silent and await self._is_dead(entry),
        )

    async def _is_dead(self, entry: MountEntry) -> bool:
        """A client whose bricks are all away gives the same error as one that has ended, but it will answer again."""
        if entry.fstype != FSTYPE:
            return False
        paths = mountinfo.paths_of(mountinfo.read(), entry.device)
        return not await self._local(lambda: processes.has_client(paths))

    async def mounts_of(self, device: str, apart_from: Sequence[str] = ()) -> tuple[str, ...]:
        """The paths at which the superblock ``major:minor`` is mounted, without the places of ``apart_from``."""
        left_out = await self._local(lambda: [directories.resolve(path) for path in apart_from])
        return mountinfo.paths_of(mountinfo.read(), device, left_out)

    async def make_directory(self, path: str) -> bool:
        """An empty directory to mount on; True if it was not there before. Raises: MountFailed."""
        return await self._local(lambda: directories.make(path))

    async def remove_directory(self, path: str) -> None:
        """If it is empty and no mount point. Nothing there is fine. Raises: MountFailed."""
        await self._local(lambda: directories.remove(path))

    @staticmethod
    def _at(path: str) -> MountEntry | None:
        return mountinfo.top(mountinfo.read(), path)

    async def _local(self, work: Callable[[], T]) -> T:
        try:
            return await blocking.call(work, self._timeout)
        except TimeoutError as error:
            raise MountFailed(f"a system call about a mount did not end within {self._timeout:g} s") from error


def is_of(mounted: str, source: MountSource) -> bool:
    """Whether ``SERVER:/VOLUME`` as mountinfo has it is this volume. The client names the first server it was given."""
    server, _, volume = mounted.partition(":/")
    return volume == source.volume and server in source.servers


def _volume(entry: MountEntry) -> str:
    return entry.source.rpartition(":/")[2].replace("/", "-") or "-"


def _named(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, error.errno)} ({error.strerror})"


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

"""``Mounter`` on this machine: GlusterFS clients by way of ``Clients``, bind mounts and looks by system calls."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from csi.core.errors import MountFailed
from csi.mountports import Clients, MountSource, MountState
from csi.mounts import blocking, directories, mountinfo, syscalls, unmounting
from csi.mounts.detached import volume_of
from csi.mounts.mountinfo import MountEntry
from csi.mounts.probe import Probes
from csi.mounts.unmounting import FSTYPE

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

# Seconds. Who only looks at a mount (df, the kubelet, our own probe) keeps it busy for that moment.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)

T = TypeVar("T")


class GlusterMounter:
    """``clients`` starts and ends the clients, here or in another container; ``probes`` asks what is mounted."""

    def __init__(self, clients: Clients, probes: Probes) -> None:
        self._clients = clients
        self._probes = probes
        self._timeout = probes.timeout

    async def close(self) -> None:
        """End the processes that wait for questions. Mounts and their clients stay."""
        await self._probes.close()

    async def mount(self, source: MountSource, target: str) -> None:
        """A GlusterFS client of its own at ``target``; returns when it is seen to be alive.

        Raises: MountFailed, Unavailable (whoever starts the clients is away).
        """
        path = await self._local(lambda: directories.resolve(target))
        await self._clients.start(source, path)

    async def bind(self, source: str, target: str, options: Sequence[str]) -> None:
        """Bind ``source`` at ``target`` with the per-mount ``options`` (ro, nosuid, ...). Raises: MountFailed."""
        if unknown := [option for option in options if option not in _FLAGS and option not in _NO_FLAG]:
            raise MountFailed(f"bind mount at {target}: unknown option {unknown[0]!r}")
        flags = 0
        for option in options:
            flags |= _FLAGS.get(option, 0)

        try:
            await self._local(lambda: syscalls.bind(source, target, flags))
        except OSError as error:
            raise MountFailed(f"bind mount of {source} at {target} failed: {unmounting.named(error)}") from error
        try:
            origin, path = await self._local(lambda: (directories.resolve(source), directories.resolve(target)))
            self._check_bound(origin, path)
        except BaseException:
            await unmounting.detach(target, self._timeout)
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
        for _ in range(unmounting.MOST_STACKED):
            entry = unmounting.at(path)
            if entry is None:
                return
            silent = await self._unmount(entry)
            if entry.fstype == FSTYPE and not mountinfo.paths_of(mountinfo.read(), entry.device):
                await self._clients.end(volume_of(entry), path, entry.device, silent=silent)
        raise MountFailed(f"{path} is still mounted after {unmounting.MOST_STACKED} unmounts")

    async def _unmount(self, entry: MountEntry) -> bool:
        """True if the file system did not answer and was taken out of the way."""
        for pause in (*_PAUSES, None):
            try:
                await blocking.call(lambda: syscalls.umount(entry.path), self._timeout)
            except TimeoutError:
                break
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOENT):  # gone meanwhile
                    return False
                # A process that stands in the mount of a dead client keeps it busy.
                answer = await self._probes.ask(entry)
                if error.errno == errno.EBUSY and answer.reason:
                    break
                if error.errno != errno.EBUSY or pause is None:
                    raise MountFailed(
                        f"{entry.path} ({entry.source}) cannot be unmounted: {unmounting.named(error)}: a process uses "
                        f"it; 'fuser -vm {entry.path}' tells which"
                    ) from error
                await asyncio.sleep(pause)
            else:
                return False
        await unmounting.detach(entry.path, self._timeout)
        return True

    async def inspect(self, target: str) -> MountState | None:
        """None if nothing is mounted exactly at ``target``."""
        path = await self._local(lambda: directories.resolve(target))
        entry = unmounting.at(path)
        if entry is None:
            return None
        answer = await self._probes.ask(entry)
        return MountState(
            source=entry.source,
            fstype=entry.fstype,
            device=entry.device,
            options=entry.options,
            root=entry.root,
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
        return not await self._clients.runs(paths)

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

    async def _local(self, work: Callable[[], T]) -> T:
        return await blocking.promptly(work, self._timeout)

"""What a look at a path shows, and taking it away without asking whether anybody uses it."""

from __future__ import annotations

import errno

from csi.core.errors import MountFailed
from csi.mounts import blocking, mountinfo, syscalls
from csi.mounts.mountinfo import MountEntry

FSTYPE = "fuse.glusterfs"
MOST_STACKED = 64


def at(path: str) -> MountEntry | None:
    """The uppermost mount exactly at ``path`` (resolved)."""
    return mountinfo.top(mountinfo.read(), path)


async def detach(path: str, timeout: float) -> None:
    """One mount, also one that hangs or is used. Nothing there is fine. Raises: MountFailed."""
    try:
        await blocking.promptly(lambda: syscalls.umount(path, syscalls.MNT_DETACH), timeout)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise MountFailed(f"{path} cannot be unmounted: {named(error)}") from error


def named(error: OSError) -> str:
    return f"{errno.errorcode.get(error.errno or 0, error.errno)} ({error.strerror})"

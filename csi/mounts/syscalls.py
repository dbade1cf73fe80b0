"""``mount(2)`` and ``umount2(2)``: Python has neither, and ``mount(8)`` costs a process."""

from __future__ import annotations

import ctypes
import os

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, flags: int) -> None:
    """A mount without a file system type: a bind or a remount. Raises: OSError."""
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) != 0:
        _fail(target)


def umount(target: str, flags: int = 0) -> None:
    """Raises: OSError (EBUSY in use, EINVAL not a mount point, ENOENT)."""
    if _libc.umount2(os.fsencode(target), flags | UMOUNT_NOFOLLOW) != 0:
        _fail(target)


def _fail(target: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), target)

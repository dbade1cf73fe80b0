"""System calls that Python does not have: mounts, unmounts and binds. ``mount(8)`` costs a process."""

from __future__ import annotations

import ctypes
import errno
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
_MS_PRIVATE = 1 << 18

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# The same numbers on every architecture (linux/unistd.h).
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_SYMLINKS = 4, 0x10
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_ATTR_ATIME = 0x70  # mask; the value 0 is relatime
_ATTRIBUTES = {
    MS_RDONLY: 1,
    MS_NOSUID: 2,
    MS_NODEV: 4,
    MS_NOEXEC: 8,
    MS_NOATIME: 0x10,
    MS_STRICTATIME: 0x20,
    MS_NODIRATIME: 0x80,
    MS_RELATIME: 0,
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


class _MountAttributes(ctypes.Structure):
    """``struct mount_attr``."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


def bind(source: str, target: str, flags: int = 0) -> None:
    """Bind ``source`` at ``target``, over what is there, with the flags of the new mount. Raises: OSError.

    The new mount is finished before anybody sees it: its flags are set, and it has left the peer group of ``source``.
    Otherwise a copy that was propagated would never get the flags, and what is mounted over one target later would
    appear over ``source`` and all its other targets. The older calls can't do that, so on a kernel before 5.12 what
    is there already is taken away first.
    """
    tree = -1
    try:
        tree = _call(_OPEN_TREE, source, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)
        attributes = _attributes(flags)
        pointer, size = ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes))
        _call(_MOUNT_SETATTR, source, tree, b"", _AT_EMPTY_PATH, pointer, size)
        where = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_SYMLINKS
        _call(_MOVE_MOUNT, target, tree, b"", _AT_FDCWD, os.fsencode(target), where)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _bind_in_two_steps(source, target, flags)
    finally:
        if tree >= 0:
            os.close(tree)


def mount(source: str, target: str, flags: int) -> None:
    """A mount without a file system type: a bind or a remount. Raises: OSError."""
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) != 0:
        _fail(target)


def umount(target: str, flags: int = 0) -> None:
    """Raises: OSError (EBUSY in use, EINVAL not a mount point, ENOENT)."""
    if _libc.umount2(os.fsencode(target), flags | UMOUNT_NOFOLLOW) != 0:
        _fail(target)


def _bind_in_two_steps(source: str, target: str, flags: int) -> None:
    try:
        umount(target, MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    mount(source, target, MS_BIND)
    if not flags:
        return
    try:
        mount(source, target, MS_REMOUNT | MS_BIND | flags)
    except OSError:
        umount(target, MNT_DETACH)
        raise


def _attributes(flags: int) -> _MountAttributes:
    found = 0
    for flag, attribute in _ATTRIBUTES.items():
        found |= attribute if flags & flag else 0
    clear = _ATTR_ATIME if flags & (MS_NOATIME | MS_STRICTATIME | MS_RELATIME) else 0
    return _MountAttributes(found, clear, _MS_PRIVATE, 0)


def _call(number: int, path: str, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        _fail(path)
    return result


def _fail(target: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), target)

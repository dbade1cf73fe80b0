"""Mount points as directories: made when they are missing, removed when they are empty, never more than that."""

from __future__ import annotations

import errno
import os
import stat

from csi.core.errors import MountFailed


def resolve(path: str) -> str:
    """As mountinfo names it. The last part is not looked at: a mount that hangs may be there."""
    parent, name = os.path.split(os.path.normpath(os.path.abspath(path)))
    return os.path.join(os.path.realpath(parent), name)


def make(path: str) -> bool:
    """An empty directory to mount on. True if it was not there before. Nothing is mounted at ``path``.

    Raises: MountFailed if something else is there, or it is not empty: a mount would hide what it holds.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        os.mkdir(path, 0o750)
    except FileExistsError:
        pass
    except OSError as error:
        raise MountFailed(f"directory {path} cannot be made: {error.strerror}") from error
    else:
        return True
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise MountFailed(f"{path} is not a directory: remove it, nothing can be mounted there")
        held = os.listdir(path)
    except OSError as error:
        raise MountFailed(f"directory {path} cannot be read: {error.strerror}") from error
    if held:
        raise MountFailed(f"directory {path} is not mounted and not empty{_some(held)}: move that elsewhere first")
    return False


def remove(path: str) -> None:
    """Nothing there is fine. Raises: MountFailed if it is a mount point, not a directory, or not empty."""
    try:
        here = os.lstat(path)
        above = os.lstat(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise MountFailed(f"directory {path} cannot be looked at, so it was not removed: {error.strerror}") from error
    if not stat.S_ISDIR(here.st_mode):
        raise MountFailed(f"{path} is not a directory, so it was not removed: remove it by hand")
    if here.st_dev != above.st_dev:
        raise MountFailed(f"{path} is still a mount point, so it was not removed")
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            held = _some(os.listdir(path))
            raise MountFailed(
                f"directory {path} is not mounted and not empty{held}, so it was not removed: "
                "something wrote there while nothing was mounted; move that elsewhere"
            ) from error
        raise MountFailed(f"directory {path} cannot be removed: {error.strerror}") from error


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:3])
    return f" ({shown}{', ...' if len(names) > 3 else ''})" if names else ""

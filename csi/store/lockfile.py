"""One process per state file: a lock file beside it that names its holder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from csi.core.errors import StateUnusable


class LockFile:
    """``flock`` and not ``fcntl`` record locks: those would be lost at the close of any other descriptor of the file.

    The kernel drops the lock when the process ends, however it ends. The file itself stays: to remove it
    would let two processes lock two files of one name.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._path = state.with_name(state.name + ".lock")
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises: StateUnusable naming the holder; OSError if the lock file can't be made."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 512, 0).decode(errors="replace").split()
            os.close(descriptor)
            who = f"process {holder[0]} on {holder[1]}" if len(holder) == 2 else "another process"
            raise StateUnusable(
                f"state file {self._state} is in use by {who} (lock file {self._path}): "
                "stop that process, or give this one a state file of its own (state.path)"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

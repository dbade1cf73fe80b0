"""The first process of the container: it starts the daemon, again when that crashes, and collects orphans.

The clients make daemons of themselves and become its children, so they live on when the serving process ends, even
by SIGKILL. It is small, knows nothing of mounts and never touches them: what does nothing does not crash.
Where it is not process 1 (a unit of systemd, a test) it has the kernel give it the orphans all the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds
_STEADY = 2.0  # seconds that a daemon has to live for the next pause to be the first one again


def supervise(argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT, which is passed on; the exit status of the daemon then.

    Clients live on unless this is process 1 of a PID namespace: the kernel ends that with it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    if os.getpid() != 1:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    pause, stopping = _FIRST_PAUSE, False
    while True:
        began = time.monotonic()
        child = _spawn(argv)
        status, stopping = _watch(child, stopping)
        if stopping:
            return status
        pause = _FIRST_PAUSE if time.monotonic() - began >= _STEADY else min(2 * pause, _LONGEST_PAUSE)
        sys.stderr.write(f"gluster-csi mounts: the daemon ended with {status}; started again in {pause:g} s\n")
        sys.stderr.flush()
        if _pause(pause):
            return 0


def end_with_parent() -> None:
    """Called by the daemon: it must not serve on without the process that looks after it."""
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGTERM)


def _spawn(argv: Sequence[str]) -> int:
    return os.posix_spawn(argv[0], list(argv), os.environ, setsigmask=(), setsigdef=_SIGNALS)


def _watch(child: int, stopping: bool) -> tuple[int, bool]:
    """Until the child has ended: its exit status, and whether that was asked for."""
    while True:
        status = _reap(child)
        if status is not None:
            return status, stopping
        number = signal.sigwait(_SIGNALS)
        if number != signal.SIGCHLD:
            stopping = True
            os.kill(child, signal.SIGTERM)


def _reap(child: int | None) -> int | None:
    """Collect every ended process; the exit status of ``child`` if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = os.waitstatus_to_exitcode(status)


def _pause(seconds: float) -> bool:
    """Wait, collecting orphans; True as soon as it is told to end."""
    over = time.monotonic() + seconds
    while (left := over - time.monotonic()) > 0:
        told = signal.sigtimedwait(_SIGNALS, left)
        _reap(None)
        if told is not None and told.si_signo != signal.SIGCHLD:
            return True
    return False


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")

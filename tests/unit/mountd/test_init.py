"""Process 1: it starts the daemon again, collects orphans, passes SIGTERM on, and ends no client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# A daemon that says its process id and starts an orphan, in a session of its own, that does so too.
DAEMON = """
import os, pathlib, sys, time
here = pathlib.Path(sys.argv[1])
if not (here / "orphan").exists() and os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    (here / "orphan.new").write_text(str(os.getpid())); (here / "orphan.new").rename(here / "orphan")
    while not (here / "end").exists(): time.sleep(0.01)
    os._exit(0)
(here / "new").write_text(str(os.getpid())); (here / "new").rename(here / "daemon")
time.sleep(60)
"""


class Supervised:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        code = "import sys; from csi.mountd import init; sys.exit(init.supervise(sys.argv[1:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, sys.executable, "-c", DAEMON, str(directory)], stderr=subprocess.DEVNULL
        )

    def pid(self, name: str, other_than: int = 0) -> int:
        def there() -> bool:
            return (self.directory / name).exists() and int((self.directory / name).read_text()) != other_than

        wait(there)
        return int((self.directory / name).read_text())


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path)
    yield supervised
    (tmp_path / "end").touch()
    supervised.process.kill()
    supervised.process.wait()
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(int((tmp_path / "daemon").read_text()), signal.SIGKILL)


def test_a_daemon_that_is_killed_is_started_again_and_its_orphan_lives_on(supervised: Supervised) -> None:
    orphan, daemon = supervised.pid("orphan"), supervised.pid("daemon")
    for _ in range(3):
        os.kill(daemon, signal.SIGKILL)
        daemon = supervised.pid("daemon", other_than=daemon)
        assert parent(daemon) == parent(orphan) == supervised.process.pid
    (supervised.directory / "end").touch()
    wait(lambda: not Path(f"/proc/{orphan}").exists())  # collected: no zombie


def test_sigterm_ends_the_daemon_and_not_the_orphan(supervised: Supervised) -> None:
    orphan, daemon = supervised.pid("orphan"), supervised.pid("daemon")
    supervised.process.terminate()
    assert supervised.process.wait(10) == -signal.SIGTERM & 0xFF
    assert not Path(f"/proc/{daemon}").exists()
    assert Path(f"/proc/{orphan}").exists()


def test_sigterm_during_the_pause_after_a_crash(tmp_path: Path) -> None:
    code = "import sys; from csi.mountd import init; sys.exit(init.supervise(['/bin/false']))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for _ in range(4):
            assert b"the daemon ended with 1; started again in" in process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0

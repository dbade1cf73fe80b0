"""``gluster-csi mounts`` as its container would run it: process 1 of a PID namespace, in a mount namespace of its own.

The directory is a shared mount, as /var/lib/kubelet is: what the daemon mounts below it appears here too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from csi.mounts import mountinfo


@dataclass(slots=True)
class MountsDaemon:
    """``directory`` holds the shared mount ``kubelet``, and outside of it configuration, socket and logs."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> Path:
        return self.directory / "kubelet"

    @property
    def address(self) -> Path:
        return self.directory / "mounts.sock"

    @property
    def log_dir(self) -> Path:
        return self.directory / "clients"

    @property
    def log(self) -> Path:
        return self.directory / "mounts.log"

    def start(self) -> None:
        """Returns when it serves."""
        self.root.mkdir(parents=True, exist_ok=True)
        if mountinfo.top(mountinfo.read(), str(self.root)) is None:
            subprocess.run(["mount", "--bind", self.root, self.root], check=True)
            subprocess.run(["mount", "--make-private", self.root], check=True)
            subprocess.run(["mount", "--make-shared", self.root], check=True)
        config = self.directory / "mounts.toml"
        config.write_text(
            f"[mounts]\nsocket = {json.dumps(str(self.address))}\nroots = {json.dumps(str(self.root))}\n"
            f"[node]\nlog_dir = {json.dumps(str(self.log_dir))}\nmount_timeout = 30\n"
        )
        namespaces = ["unshare", "--mount", "--propagation", "unchanged", "--pid", "--fork", "--mount-proc"]
        command = [*namespaces, sys.executable, "-m", "csi", "mounts", "--config", str(config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.wait_for_serving()

    def wait_for_serving(self, other_than: int | None = None) -> int:
        """The process id of the daemon that serves, when it does."""

        def serves() -> bool:
            pid = self.serving()
            return pid is not None and pid != other_than and self._answers()

        _wait(serves, lambda: f"the mounts daemon does not serve:\n{self.log.read_text()}")
        pid = self.serving()
        assert pid is not None
        return pid

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as attempt, suppress(OSError):
            attempt.connect(str(self.address))
            return True
        return False

    @property
    def init(self) -> int:
        """The process id, out here, of the container's process 1."""
        assert self.process is not None
        (pid,) = _children(self.process.pid)
        return pid

    def serving(self) -> int | None:
        """The process id of the daemon below it."""
        assert self.process is not None
        for pid in [child for init in _children(self.process.pid) for child in _children(init)]:
            if b"--serve" in _arguments(pid):
                return pid
        return None

    def crash(self) -> None:
        """Kill the daemon, not its process 1; returns when the next one serves."""
        pid = self.serving()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.wait_for_serving(other_than=pid)

    def zombies(self) -> list[int]:
        return [pid for pid in _children(self.init) if not _arguments(pid)[0]]

    def stop(self) -> int:
        """As when its container is ended. Its clients end too, as they do with their PID namespace."""
        assert self.process is not None
        with suppress(ValueError, ProcessLookupError):
            os.kill(self.init, signal.SIGTERM)
        status = self.process.wait(30)
        self.process = None
        return status

    def remove(self) -> None:
        if self.process is not None:
            self.stop()
        for entry in reversed(mountinfo.read()):
            if entry.path == str(self.root) or entry.path.startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", entry.path], check=False)


def _wait(until: Callable[[], bool], complaint: Callable[[], str], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint())
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _arguments(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return [b""]

"""A real OpenSSH server on the loopback, with keys of its own, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import getpass
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"


class Sshd:
    """``key_file`` logs in; ``known_hosts`` knows the server; ``stranger`` is a key that the server does not accept."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.key_file = directory / "client"
        self.stranger = directory / "stranger"
        self.known_hosts = directory / "known_hosts"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("client", "stranger", "host"):
            if not (directory / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.remember("host")
        (directory / "sshd_config").write_text(
            "\n".join(
                (
                    f"ListenAddress 127.0.0.1:{self.port}",
                    f"HostKey {directory}/host",
                    f"AuthorizedKeysFile {self.key_file}.pub",
                    "StrictModes no",
                    "UsePAM no",
                    "PermitRootLogin prohibit-password",
                    "PidFile none",
                    *options,
                    "",
                )
            )
        )

    @property
    def manage(self) -> str:
        return f"127.0.0.1:{self.port}"

    def remember(self, key: str) -> None:
        """Write a known-hosts file that names this key as the server's."""
        public = (self.directory / f"{key}.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")

    def start(self) -> None:
        if getpass.getuser() == "root":
            os.makedirs("/run/sshd", exist_ok=True)  # the path is compiled into sshd
        log = self.directory / "sshd.log"
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", self.directory / "sshd_config", "-E", log], stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"sshd does not run: {log.read_text()}") from None
                time.sleep(0.02)
            else:
                return

    def connections(self) -> list[int]:
        """The processes that serve one connection each."""
        assert self._process is not None
        return [int(pid) for pid in _children(self._process.pid)]

    def cut(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """End all connections from the server's side; what runs in their sessions is left running."""
        for pid in self._serving():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)

    def _serving(self) -> list[int]:
        """The server's processes that serve connections; not what runs in their sessions."""
        processes = (child for pid in self.connections() for child in (pid, *map(int, _children(pid))))
        return [pid for pid in processes if _name(pid).startswith("sshd")]

    def freeze(self) -> None:
        """The server says nothing any more, as if the network were cut."""
        self.cut(signal.SIGSTOP)

    def thaw(self) -> None:
        self.cut(signal.SIGCONT)

    def stop(self) -> None:
        """End the server and all connections; nobody listens at its port then.

        A process that was just forked for a connection still has the listening socket, and a killed one keeps it until
        it is gone: the server is held while its processes are counted, and each is waited for.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)
        serving = []
        for pid in self._serving():
            with contextlib.suppress(ProcessLookupError):
                serving.append(os.pidfd_open(pid))
        self._process.kill()
        for descriptor in serving:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], 10)  # it can be read when the process is gone
            os.close(descriptor)
        self._process.wait()
        self._process = None


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""

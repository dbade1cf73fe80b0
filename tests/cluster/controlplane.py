"""etcd and kube-apiserver on loopback: a real API for tests that need no node.

RBAC is on; there is no controller manager, so nothing collects garbage, makes default service accounts or finishes the
deletion of a namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.binaries import debian, kubernetes
from tests.cluster.credentials import Credentials, make_credentials
from tests.cluster.processes import API_SERVICE, Endpoints, api_server, etcd
from tests.lab.system import LabError, alive, environment

_LOOPBACK = "127.0.0.1"
_PREFIX = "gluster-api-"
_READY_SECONDS = 60
_TRIES = 3


class ControlPlane:
    """One API server with an etcd of its own, data in a directory that goes with it.

    ``directory``: where to make that directory; default: the temporary directory. Several run side by side.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._parent = directory
        self._directory: Path | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}
        self._credentials: Credentials | None = None
        self._endpoints: Endpoints | None = None

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def url(self) -> str:
        if self._endpoints is None:
            raise LabError("the control plane is not up")
        return self._endpoints.url

    @property
    def credentials(self) -> Credentials:
        if self._credentials is None:
            raise LabError("the control plane is not up")
        return self._credentials

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.credentials.kubeconfig("admin")

    @property
    def token(self) -> str:
        """Of the administrator, for the header ``Authorization: Bearer``."""
        return self.credentials.token()

    @property
    def pid(self) -> int:
        """Of the API server, for tests that stop or kill it."""
        return self._running["kube-apiserver"].pid

    def log(self, process: str) -> str:
        """What ``etcd`` or ``kube-apiserver`` wrote."""
        return (self._home / f"{process}.log").read_text(errors="replace")

    @property
    def _home(self) -> Path:
        if self._directory is None:
            raise LabError("the control plane is not up")
        return self._directory

    # ------------------------------------------------------------------------------------------- up and down

    def up(self) -> None:
        """Returns when the API server says it is ready."""
        if self._running:
            return
        _remove_abandoned(self._parent)
        try:
            for attempt in range(_TRIES):
                try:
                    self._up()
                    return
                except _PortTakenError:
                    # Between our choice of a port and the process that binds it anybody may take it.
                    self.down()
                    if attempt == _TRIES - 1:
                        raise
        except BaseException:
            self.down()
            raise

    def _up(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=self._parent))
        self._endpoints = Endpoints(_LOOPBACK, *_free_ports(3))
        self._credentials = make_credentials(self._home / "pki", self.url, [_LOOPBACK, API_SERVICE], {})
        self._commands = {
            "etcd": etcd(self._endpoints, self._home / "etcd"),
            "kube-apiserver": api_server(self._endpoints, self._credentials),
        }
        for name in self._commands:
            self.start(name)
        self.wait_until_ready()

    def start(self, process: str) -> None:
        """Start what is not running: ``etcd`` or ``kube-apiserver``."""
        if process in self._running:
            return
        # The kernel ends it with us, however we end: a test session that is killed leaves nothing.
        dying = [debian("setpriv", "util-linux"), "--pdeathsig=KILL"]
        with (self._home / f"{process}.log").open("ab") as log:
            self._running[process] = subprocess.Popen(
                [*dying, *self._commands[process]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env=environment(),
                start_new_session=True,
            )

    def kill(self, process: str) -> None:
        """End it hard, as a power cut would. ``start`` brings it back on the same port."""
        running = self._running.pop(process, None)
        if running is not None:
            running.kill()
            running.wait()

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_ready(self.url, self.credentials):
            for name, process in self._running.items():
                if process.poll() is not None:
                    self._explain(name, process.returncode)
            if time.monotonic() > deadline:
                said = self.log("kube-apiserver")[-2000:]
                raise LabError(f"kube-apiserver: not ready within {seconds:g} s; it says:\n{said}")
            time.sleep(0.05)

    def _explain(self, name: str, code: int) -> None:
        said = self.log(name)[-2000:]
        kind = _PortTakenError if "address already in use" in said else LabError
        raise kind(f"{name} ended (exit {code}); it says:\n{said}")

    def down(self) -> None:
        """End both and remove their directory. Harmless if nothing is there."""
        for name in reversed(list(self._running)):
            self.kill(name)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=False)
        self._directory = self._endpoints = self._credentials = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # -------------------------------------------------------------------------------------------- kubectl

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """As the administrator. With ``check`` a failure is an error that says what it said."""
        return kubectl(self.kubeconfig, words, stdin, check)


class _PortTakenError(LabError):
    """Somebody else has bound the port that we chose."""


def kubectl(
    kubeconfig: Path, words: tuple[str, ...], stdin: str | None = None, check: bool = True, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run kubectl. Its cache lies beside the kubeconfig, not in somebody's home."""
    done = subprocess.run(
        [kubernetes("kubectl"), f"--kubeconfig={kubeconfig}", f"--cache-dir={kubeconfig.parent}/cache", *words],
        text=True,
        input=stdin or "",
        capture_output=True,
        timeout=seconds,
        check=False,
        env=environment(),
    )
    if check and done.returncode != 0:
        raise LabError(f"kubectl {' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done


def is_ready(url: str, credentials: Credentials) -> bool:
    """Does the API server say so itself?"""
    context = ssl.create_default_context(cafile=str(credentials.ca))
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {credentials.token()}"})
    # No proxy of the environment: this is loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            taken = held.enter_context(socket.socket())
            taken.bind((_LOOPBACK, 0))
            ports.append(int(taken.getsockname()[1]))
        return ports


def _remove_abandoned(parent: Path | None) -> None:
    """Directories of sessions that were killed; their processes ended with them."""
    for path in (parent or Path(tempfile.gettempdir())).glob(f"{_PREFIX}*-*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)

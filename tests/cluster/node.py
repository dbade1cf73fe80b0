"""The machine that Kubernetes runs on: namespaces, a file tree and control groups of its own, and processes sent in."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.cluster import groups, network
from tests.cluster.binaries import program_directory
from tests.lab.system import LabError, alive, call, children, environment, host_processes, wait_for

BOOT_SECONDS = 30
# What survives on the node's disk: mount points, upper and work directories of overlays, and what is bound.
_DIRECTORIES = ("root", "kubelet", "containerd", "etcd", "pki", "logs")
_LAYERED = ("etc", "var", "opt")


@dataclass(frozen=True, slots=True)
class Node:
    """A node by its instance. ``disk``: its directory on this machine, seen under the same path inside."""

    instance: str
    disk: Path

    @property
    def name(self) -> str:
        """Its host name, and its name in Kubernetes."""
        return groups.group_name(self.instance)

    def init(self) -> int | None:
        """Its PID 1 as this machine counts; None if it is not up."""
        # A container's first process is 1 as well, but one namespace deeper.
        return next((pid for pid in groups.members(self.instance) if inner_numbers(pid) == ["1"]), None)

    def inside(self, path: str) -> Path:
        """A path of the node, as this machine reaches it."""
        return Path(f"/proc/{self._running()}/root{path}")

    def _running(self) -> int:
        init = self.init()
        if init is None:
            raise LabError(f"the node of cluster {self.instance} is not up")
        return init

    # ------------------------------------------------------------------------------------------- up and down

    def boot(self) -> None:
        """Returns when its file tree stands. The network is made before."""
        for name in _DIRECTORIES:
            (self.disk / name).mkdir(exist_ok=True)
        for name in _LAYERED:
            (self.disk / name).mkdir(exist_ok=True)
            (self.disk / f"{name}.work").mkdir(exist_ok=True)
        script = self.disk / "node.sh"
        shutil.copy(Path(__file__).with_name("node.sh"), script)
        groups.make_groups(self.instance)
        console = self.disk / "logs/console.log"
        with console.open("ab") as output:
            outer = subprocess.Popen(
                [
                    # Not `ip netns exec`: it mounts a new /sys, without control groups.
                    *("nsenter", f"--net=/run/netns/{network.namespace_name(self.instance)}"),
                    *("/bin/bash", str(script), "enter", str(self.disk), self.name, str(program_directory())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                cwd="/",
                start_new_session=True,
            )

        def ready() -> bool:
            if outer.poll() is not None:
                said = console.read_text(errors="replace")[-2000:]
                raise LabError(f"the node did not boot (exit {outer.returncode}), its console says:\n{said}")
            return any(os.path.exists(f"/proc/{pid}/root/run/node-ready") for pid in children(outer.pid))

        wait_for(f"boot of the node (see {console})", ready, BOOT_SECONDS)
        outer.returncode = 0  # left running on purpose: no ResourceWarning when this object goes

    def power_off(self) -> None:
        """Every process gone at once, with namespaces and mounts. The disk stays."""
        groups.remove_groups(self.instance)
        with contextlib.suppress(ChildProcessError):  # those that this process started are its own to reap
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        network.remove_network(self.instance)

    # ---------------------------------------------------------------------------------------- processes on it

    def _entering(self) -> list[str]:
        """Into its control groups first: what is started there counts as the node's, and ends with it."""
        init = self._running()
        entrances = [str(path) for path in groups.entrances(self.instance)]
        join = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1"; shift; n=$((n - 1)); done; exec "$@"'
        enter = ("nsenter", f"--target={init}", "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--")
        return ["/bin/sh", "-c", join, "sh", str(len(entrances)), *entrances, *enter]

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        stdin: str | IO[bytes] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on the node. With ``check`` a failure is an error that says what it said."""
        text, file = (stdin, subprocess.PIPE) if isinstance(stdin, str) else (None, stdin or subprocess.DEVNULL)
        with subprocess.Popen(
            [*self._entering(), *argv],
            text=True,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(text, timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, output, errors)
        if check and done.returncode != 0:
            said = (errors or output).strip()
            raise LabError(f"node {self.name}: {' '.join(argv)}: exit {done.returncode}: {said}")
        return done

    def shell(self) -> int:
        """A shell on this terminal, on the node."""
        return subprocess.call([*self._entering(), "/bin/bash", "-l"], env=environment())

    def start(self, process: str, argv: Sequence[str]) -> None:
        """Start a process that stays, as a child of the node's init; its output goes to ``log(process)``."""
        start = 'log=$1 pid=$2; shift 2; setsid "$@" >>"$log" 2>&1 </dev/null & echo $! >"$pid"'
        self.run(["/bin/sh", "-c", start, "sh", str(self.log(process)), f"/run/{process}.pid", *argv])

    def log(self, process: str) -> Path:
        return self.disk / f"logs/{process}.log"

    def pid(self, process: str) -> int | None:
        """Of a process that ``start`` started, as this machine counts; None if it has ended."""
        try:
            inner = self.inside(f"/run/{process}.pid").read_text().strip()
        except OSError:
            return None
        found = (pid for pid in host_processes(self.init()) if inner_numbers(pid) == [inner])
        return next((pid for pid in found if alive(pid)), None)


def remove_disk(disk: Path) -> None:
    if disk.exists():
        call("chattr", "-R", "-f", "-i", str(disk), check=False)  # mount points of bricks are immutable
        shutil.rmtree(disk)


def inner_numbers(pid: int) -> list[str]:
    """The PIDs of a process in the PID namespaces below this machine's, outermost first. Empty if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return next((line.split()[2:] for line in status.splitlines() if line.startswith("NSpid:")), [])

"""A runner and a host that it reaches, by every way to a host.

A further implementation is one more entry in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from csi.core.command import Command, Result, Script
from csi.core.model import ClusterId, Host
from csi.core.naming import host_id
from csi.hosts.kube import KubeRunner, KubeSettings
from csi.hosts.local import LocalRunner
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.hosts.ssh import SshRunner, SshSettings
from csi.kubernetes.client import KubernetesApi
from csi.ports import Runner
from tests.cluster.cluster import Cluster
from tests.contract.exec_server import ExecServer
from tests.contract.sshd import Sshd


def a_host(manage: str) -> Host:
    return Host(host_id(manage), ClusterId("c" * 32), manage, manage, 1)


def say(out: str = "", err: str = "", status: int = 0) -> tuple[str, ...]:
    """A command that says this and ends so."""
    return ("sh", "-c", 'printf %s "$1"; printf %s "$2" >&2; exit "$3"', "sh", out, err, str(status))


def script(*commands: Command | tuple[str, ...], timeout: float = 10.0) -> Script:
    return Script(tuple(c if isinstance(c, Command) else Command(c) for c in commands), timeout)


@dataclass
class Bench:
    """A runner and a host that it reaches.

    ``say`` makes a command of that host, ``wait`` one that takes so many seconds; ``echo`` repeats its stdin.
    """

    runner: Runner
    host: Host
    real: bool = True
    say: Callable[..., tuple[str, ...]] = say
    wait: Callable[[float], tuple[str, ...]] = lambda seconds: ("sleep", str(seconds))
    echo: tuple[str, ...] = ("cat",)
    after: Callable[[], Awaitable[None]] | None = None  # ends what reached the host

    async def run(self, *commands: Command | tuple[str, ...], timeout: float = 10.0) -> tuple[Result, ...]:
        return await self.runner.run(self.host, script(*commands, timeout=timeout))

    async def close(self) -> None:
        await self.runner.close()
        if self.after is not None:
            await self.after()


async def _local(request: pytest.FixtureRequest) -> Bench:
    return Bench(LocalRunner(), a_host("here"))


async def _ssh(request: pytest.FixtureRequest) -> Bench:
    server: Sshd = request.getfixturevalue("sshd")
    settings = SshSettings(key_file=str(server.key_file), known_hosts=str(server.known_hosts))
    return Bench(SshRunner(settings), a_host(server.manage))


async def _simulated(request: pytest.FixtureRequest) -> Bench:
    world = World()
    world.add("h1")
    world.programs["say"] = lambda machine, argv, stdin: Result(int(argv[3]), argv[1], argv[2])
    return Bench(
        SimulatedRunner(world), a_host("h1"), say=lambda out="", err="", status=0: ("say", out, err, str(status))
    )


async def _kube(request: pytest.FixtureRequest) -> Bench:
    server = ExecServer(request.getfixturevalue("tmp_path"))
    await server.start()
    runner = KubeRunner(KubernetesApi(server.kubeconfig), KubeSettings("gluster"))
    return Bench(runner, a_host("gluster-0"), after=server.stop)


async def _kubelet(request: pytest.FixtureRequest) -> Bench:
    cluster: Cluster = request.getfixturevalue("cluster")
    manage: str = request.getfixturevalue("host_pod")
    return Bench(KubeRunner(KubernetesApi(str(cluster.kubeconfig)), KubeSettings("default")), a_host(manage))


KINDS: dict[str, Callable[[pytest.FixtureRequest], Awaitable[Bench]]] = {
    "local": _local,
    "ssh": _ssh,
    "kube": _kube,
    "kubelet": _kubelet,
    "simulated": _simulated,
}
REAL = ("local", "ssh", "kube")

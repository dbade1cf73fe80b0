"""Runners over every way to a host, and over real machines alone. Servers and pods start once for all files here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.pods import pod, wait_until_ready
from tests.contract.runners.bench import KINDS, REAL, Bench
from tests.contract.sshd import Sshd


@pytest.fixture(scope="package")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def host_pod(cluster: Cluster) -> Iterator[str]:
    """A pod on a real node that plays a Gluster host."""
    cluster.apply(pod("host-pod"))
    wait_until_ready(cluster, "host-pod")
    yield "host-pod"
    cluster.kubectl("delete", "pod", "host-pod", "--now")


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.cluster] * (kind == "kubelet")) for kind in KINDS])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = await KINDS[request.param](request)
    yield made
    await made.close()


@pytest.fixture(params=REAL)
async def real(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = await KINDS[request.param](request)
    yield made
    await made.close()

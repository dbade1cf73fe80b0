"""A hand and a controller: with kubectl on a real API server, and over its double."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi.kubernetes.client import KubernetesApi
from tests.api_double import ApiDouble, Server
from tests.contract.manifests.bench import Bench
from tests.custom_resources import wipe
from tests.keeping import DoubleHand, Hand, KubectlHand, hosts


@pytest.fixture(params=["double", pytest.param("kubectl", marks=pytest.mark.cluster)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    kubeconfig = ""
    if request.param == "double":
        server = Server()
        hand: Hand = DoubleHand(server)
        bench = Bench(hand, hosts(), lambda: ApiDouble(server), 50.0)
    else:
        kubeconfig = request.getfixturevalue("custom_resources")
        await wipe(kubeconfig)
        hand = KubectlHand(kubeconfig)
        bench = Bench(hand, hosts(), lambda: KubernetesApi(kubeconfig), 10.0)
    await bench.begin()
    yield bench
    await bench.life.end()
    await bench.hand.close()
    if kubeconfig:
        await wipe(kubeconfig)

"""Our definitions and resources on a real API server, for tests: installed, and emptied."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from csi.kubernetes.api import Api
from csi.kubernetes.client import KubernetesApi
from csi.store.kube.kinds import KINDS
from tests.cluster.controlplane import ControlPlane

CRDS = Path(__file__).parent.parent / "deploy" / "crds"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/gluster-csi-controller"
_EVENTS = "/api/v1/namespaces/default/events"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def install(kubeconfig: str) -> None:
    """The committed definitions; returns when the API server serves them."""
    api = KubernetesApi(kubeconfig)
    try:
        for file in sorted(CRDS.glob("*.yaml")):
            answer = await api.request("POST", _DEFINITIONS, None, yaml.safe_load(file.read_text()))
            assert answer.good or answer.status == 409, f"{file.name}: {answer.reason}"
        for kind in KINDS:
            for _ in range(200):
                if (await api.request("GET", kind.path)).good:
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError(f"{kind.name} is not served")
    finally:
        await api.close()


async def wipe(kubeconfig: str) -> None:
    """Our resources, and what was told of them. No controller may be running: nobody waits for what the finalizers
    wait for.
    """
    # The server answers when it has deleted each of them, and there may be thousands.
    api = KubernetesApi(kubeconfig, timeout=120)
    try:
        for kind in KINDS:
            # Of many it takes the API server longer than it gives a request; what it has deleted by then stays so.
            while (answer := await api.request("DELETE", kind.path)).status == 504:
                pass
            assert answer.good, answer.reason
            for left in json.loads((await api.request("GET", kind.path)).body)["items"]:
                patch = [{"op": "replace", "path": "/metadata/finalizers", "value": []}]
                answer = await api.request("PATCH", f"{kind.path}/{left['metadata']['name']}", None, patch)
                assert answer.good or answer.status == 404, answer.reason
        # The next test may have a resource of the same name, and look for the events of that.
        answer = await api.request("DELETE", _EVENTS)
        assert answer.good, answer.reason
    finally:
        await api.close()


async def forget_lease(kubeconfig: str) -> None:
    """As if no controller had ever led."""
    api = KubernetesApi(kubeconfig)
    try:
        await api.request("DELETE", LEASE)
    finally:
        await api.close()


async def stored(api: Api) -> int:
    """How many resources of ours there are."""
    answers = [await api.request("GET", kind.path) for kind in KINDS]
    return sum(len(json.loads(answer.body)["items"]) for answer in answers)


@pytest.fixture(scope="session")
def custom_resources(control_plane: ControlPlane) -> str:
    """The kubeconfig of a real API server that knows our definitions."""
    kubeconfig = str(control_plane.kubeconfig)
    # In a thread: a test that asks for it may have its own loop running already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(install(kubeconfig))).result()
    return kubeconfig

"""A store in custom resources over an API server that can be troubled."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from csi.ports import Put
from csi.store.kube import KubeStore
from tests.api_double import Server
from tests.unit.store.kube.records import CLUSTER, DEVICE, HOST
from tests.unit.store.kube.trouble import Troubled


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def api(server: Server) -> Troubled:
    return Troubled(server)


@pytest.fixture
async def store(api: Troubled) -> AsyncIterator[KubeStore]:
    store = KubeStore(api, patience=1.0)
    await store.open()
    await store.commit([Put(CLUSTER), Put(HOST), Put(DEVICE)])
    api.writes.clear()
    yield store
    await store.close()

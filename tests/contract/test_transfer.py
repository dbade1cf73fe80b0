"""``gluster-csi state export`` and ``import`` between SQLite and custom resources."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from csi.kubernetes.client import KubernetesApi
from csi.ports import Put
from csi.store.sqlite import SqliteStore
from tests.contract.records import TOPOLOGY, creation, volume
from tests.custom_resources import stored, wipe

pytestmark = pytest.mark.timeout(240)


def command(directory: Path, backend: str, kubeconfig: str, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "GLUSTER_CSI_STATE__BACKEND": backend,
        "GLUSTER_CSI_STATE__PATH": str(directory / "state.db"),
        "GLUSTER_CSI_KUBERNETES__KUBECONFIG": kubeconfig,
        "GLUSTER_CSI_KUBERNETES__NAMESPACE": "default",
        "GLUSTER_CSI_KUBERNETES__LEASE": "transfer",
        "GLUSTER_CSI_HOSTS__RUNNER": "local",
    }
    whole = [sys.executable, "-m", "csi", "state", *words]
    return subprocess.run(whole, env=environ, capture_output=True, text=True, check=False, timeout=100)


async def fill(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.commit([Put(record) for record in (*TOPOLOGY, volume("a"), creation(volume("b", gid=2001)))])
    await store.close()


async def count(kubeconfig: str) -> int:
    api = KubernetesApi(kubeconfig)
    try:
        return await stored(api)
    finally:
        await api.close()


def test_there_and_back(custom_resources: str, tmp_path: Path) -> None:
    asyncio.run(wipe(custom_resources))
    here, back = tmp_path / "here", tmp_path / "back"
    here.mkdir()
    back.mkdir()
    asyncio.run(fill(here / "state.db"))
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))

    done = command(here, "sqlite", custom_resources, "export", first)
    assert done.returncode == 0, done.stderr
    done = command(here, "kubernetes", custom_resources, "import", first)
    assert done.returncode == 0, done.stderr
    assert asyncio.run(count(custom_resources)) == len(TOPOLOGY) + 2
    done = command(here, "kubernetes", custom_resources, "export", second)
    assert done.returncode == 0, done.stderr
    done = command(back, "sqlite", custom_resources, "import", second)
    assert done.returncode == 0, done.stderr
    done = command(back, "sqlite", custom_resources, "export", third)
    assert done.returncode == 0, done.stderr
    lines = [sorted(Path(name).read_bytes().splitlines()) for name in (first, second, third)]
    assert lines[0] == lines[1] == lines[2]

    for backend in ("sqlite", "kubernetes"):
        done = command(here, backend, custom_resources, "import", first)
        assert done.returncode == 1
        assert "import into an empty one only" in done.stderr

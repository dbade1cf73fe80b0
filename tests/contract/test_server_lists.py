"""The present servers of a volume from real custom resources, and what is left of them when the API is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.core.model import Cluster, ClusterId, Durability, Gid, Host, HostId, Protection, Volume, VolumeId, VolumeSpec
from csi.kubernetes.client import KubernetesApi
from csi.mounts.servers import ServersFile
from csi.ports import Put, Remove
from csi.store.kube import KubeStore
from csi.store.kube.servers import KubeServerLists
from tests.custom_resources import wipe

C = ClusterId("c" * 32)
V = VolumeId("1" * 32)


def host(number: int, storage: str) -> Host:
    return Host(HostId(f"{number:032x}"), C, f"h{number}", storage, 1)


def volume() -> Volume:
    spec = VolumeSpec(Durability(Protection.NONE))
    return Volume(V, "pvc-1", f"vol_{V}", C, 1 << 30, spec, (), Gid(2000))


async def test_a_replaced_host_is_learnt_and_remembered(custom_resources: str, tmp_path: Path) -> None:
    await wipe(custom_resources)
    store = KubeStore(KubernetesApi(custom_resources))
    await store.open()
    await store.commit([Put(Cluster(C)), Put(host(1, "10.0.0.1")), Put(host(2, "10.0.0.2")), Put(volume())])
    api = KubernetesApi(custom_resources)
    lists = KubeServerLists(api, ServersFile(tmp_path / "servers.json", "node-1"))
    assert set(await lists.servers_of(V)) == {"10.0.0.1", "10.0.0.2"}
    old = store.inventory.hosts[HostId(f"{1:032x}")]
    await store.commit([Remove(old), Put(host(3, "10.0.0.3"))])
    assert set(await lists.servers_of(V)) == {"10.0.0.2", "10.0.0.3"}
    assert await lists.servers_of("f" * 32) == ()
    await store.close()
    await api.close()
    await wipe(custom_resources)


@pytest.mark.parametrize("remembered", [True, False])
async def test_an_api_server_that_is_away_leaves_what_is_remembered(tmp_path: Path, remembered: bool) -> None:
    memory = ServersFile(tmp_path / "servers.json", "node-1")
    if remembered:
        await memory.note(V, C, ["10.0.0.7"])
        await memory.note(VolumeId("2" * 32), ClusterId("d" * 32), ["10.0.0.8"])
    config = tmp_path / "kubeconfig"
    config.write_text(
        '{"current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],'
        '"clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],'
        '"users": [{"name": "x", "user": {}}]}'
    )
    api = KubernetesApi(str(config))
    again = ServersFile(tmp_path / "servers.json", "node-1")
    assert await KubeServerLists(api, again).servers_of(V) == (("10.0.0.7",) if remembered else ())
    await api.close()

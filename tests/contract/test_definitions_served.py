"""What a real API server and kubectl make of the definitions: rules, columns, the example of the documentation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from csi.hosts.simulated.glusterd import SimulatedGlusterd
from csi.hosts.simulated.world import World
from csi.kubernetes.client import KubernetesApi
from tests.cluster.binaries import kubernetes
from tests.custom_resources import wipe
from tests.keeping import GIB, Document, KubectlHand, Life, condition, host, manifest, until

pytestmark = pytest.mark.timeout(180)

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "pool.yaml"
UNINSTALL = DOCS / "uninstall.md"


def example_hosts() -> World:
    world = World()
    world.glusterd = SimulatedGlusterd(world)
    for number in (1, 2, 3):
        world.add(f"gluster{number}", f"192.168.10.{number}", devices=("/srv/bricks",), size=20 * GIB)
    return world


@pytest.fixture
async def hand(custom_resources: str) -> AsyncIterator[KubectlHand]:
    await wipe(custom_resources)
    hand = KubectlHand(custom_resources)
    yield hand
    await hand.close()
    await wipe(custom_resources)


@pytest.fixture
async def life(custom_resources: str, hand: KubectlHand) -> AsyncIterator[Life]:
    life = Life(example_hosts(), lambda: KubernetesApi(custom_resources), speed=10.0)
    yield await life.begin()
    await life.end()


async def accepted(hand: KubectlHand, kind: str, name: str) -> Document:
    async def look() -> Document | None:
        found = await hand.look(kind, name)
        return found if condition(found, "Accepted").get("status") == "True" else None

    return await until(look)  # type: ignore[no-any-return]


async def test_the_example_of_the_documentation_makes_a_pool(hand: KubectlHand, life: Life) -> None:
    assert await hand.apply(*yaml.safe_load_all(EXAMPLE.read_text())) == ""
    for number in (1, 2, 3):
        await accepted(hand, "GlusterDevice", f"storage-{number}-bricks")
    volume = await life.create()
    assert len({brick.host_id for brick in volume.bricks}) == 3
    # Before anybody looks at it, the columns that name the status.
    table = await hand.run("get", "ghost")
    assert table.split("\n")[0].split() == ["NAME", "HOST", "STORAGE", "ZONE", "STATE", "STATUS", "AGE"]
    assert "Ready" in table
    table = await hand.run("get", "gdevice,gcluster", "--output=wide")
    assert "MESSAGE" in table
    assert "storage-1-bricks" in table
    described = await hand.run("describe", "gdevice", "storage-1-bricks")
    assert "it is a record of the driver" in described
    assert "Accepted" in described.partition("Events:")[2]
    await life.core.volumes.delete(volume.id)
    assert "deleted" in await hand.run("delete", "-f", str(EXAMPLE), "--timeout=60s")
    assert next(life.inventory.records(), None) is None


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (manifest("GlusterDevice", "d", path="/srv/d0"), "host is missing"),
        (manifest("GlusterDevice", "d", host="h"), "spec.path"),
        (manifest("GlusterHost", "h", storage="10.0.0.1", zone=1), "spec.manage"),
        (manifest("GlusterHost", "h", manage="h1", storage="10.0.0.1", zone=1, state="gone"), "spec.state"),
        (manifest("GlusterHost", "h", manage="h1", storage="10.0.0.1", zone=1, version=1), "leave version out"),
    ],
)
async def test_what_can_be_seen_to_be_wrong_is_refused_at_once(
    hand: KubectlHand, document: Document, says: str
) -> None:
    assert says in await hand.apply(document)


async def test_a_request_may_be_corrected_and_a_record_may_not(hand: KubectlHand, life: Life, tmp_path: Path) -> None:
    spec = {"manage": "gluster9", "storage": "192.168.10.9", "zone": 1}
    assert await hand.apply(manifest("GlusterCluster", "main"), manifest("GlusterHost", "s", **spec)) == ""
    spec = {"manage": "gluster1", "storage": "192.168.10.1", "zone": 1}
    assert await hand.apply(manifest("GlusterHost", "s", **spec)) == ""
    await accepted(hand, "GlusterHost", "s")
    assert "manage cannot be changed" in await hand.apply(
        manifest("GlusterHost", "s", **{**spec, "manage": "gluster2"})
    )
    assert "cluster cannot be changed" not in await hand.apply(manifest("GlusterHost", "s", **spec, cluster="main"))
    assert "cluster cannot be changed" in await hand.apply(manifest("GlusterHost", "s", **spec, cluster="other"))
    with pytest.raises(Exception, match="use kubectl apply, patch or edit"):
        await hand.run("replace", "-f", _written(tmp_path, manifest("GlusterHost", "s", **spec)))
    record = next(iter(life.inventory.hosts.values()))
    assert record.manage == "gluster1"


async def test_a_server_side_apply_works_too(hand: KubectlHand, life: Life, tmp_path: Path) -> None:
    documents = [manifest("GlusterCluster", "main"), host(1, manage="gluster1", storage="192.168.10.1")]
    for zone in (1, 4):
        documents[1]["spec"]["zone"] = zone
        text = _written(tmp_path, *documents)
        await hand.run("apply", "--server-side", "--field-manager=somebody", "-f", text)
        await accepted(hand, "GlusterHost", "storage-1")

    async def followed() -> bool:
        return [record.zone for record in life.inventory.hosts.values()] == [4]

    await until(followed)


async def test_the_way_out_without_a_controller_is_as_documented(
    hand: KubectlHand, life: Life, custom_resources: str
) -> None:
    assert await hand.apply(*yaml.safe_load_all(EXAMPLE.read_text())) == ""
    for number in (1, 2, 3):
        await accepted(hand, "GlusterDevice", f"storage-{number}-bricks")
    await life.end()
    kinds = "glusterdevices,glusterhosts,glusterclusters"
    await hand.run("delete", kinds, "--all", "--wait=false")
    assert len((await hand.run("get", kinds, "--output=name")).split()) == 7
    text = UNINSTALL.read_text()
    start = text.index("for kind in")
    script = text[start : text.index("done", start) + len("done")]
    path = f"{Path(kubernetes('kubectl')).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "KUBECONFIG": custom_resources}
    process = await asyncio.create_subprocess_exec("sh", "-euc", script, env=environ)
    assert await process.wait() == 0
    assert await hand.run("get", kinds, "--output=name") == ""


def _written(directory: Path, *documents: Document) -> str:
    file = directory / "manifest.yaml"
    file.write_text("---\n".join(yaml.safe_dump(document) for document in documents))
    return str(file)

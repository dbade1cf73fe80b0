"""GlusterFS in pods of the cluster itself, as docs/install.md tells it: one node, so a pool of one host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.pods import execute, wait_until_done, wait_until_ready
from tests.e2e.claims import claim, user_pod, wait_until_bound, wait_until_gone
from tests.e2e.installation import NAMESPACE, STORAGE_CLASS, Installation
from tests.lab.system import LabError, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(900)]

LABEL = "csi.gluster.org/server"
BRICKS = "/var/lib/gluster-csi/bricks/"
SERVER = ("daemonset/gluster-csi-server", f"--namespace={NAMESPACE}")
COMPONENT = "app.kubernetes.io/component=server"


@dataclass(frozen=True, slots=True)
class Converged:
    """A release with its own servers. ``device``: the node's directory for bricks, seen here under the same path."""

    cluster: Cluster
    device: str

    def gluster(self, *words: str) -> str:
        return self.cluster.kubectl("exec", *SERVER, "--", "gluster", "--mode=script", *words).stdout

    def mounted(self) -> list[str]:
        """Mount points of bricks, on the node."""
        found = self.cluster.node.run(["findmnt", "--noheadings", "--list", "--output=TARGET"]).stdout.split()
        return [path for path in found if path.startswith(BRICKS)]

    def label(self, change: str) -> None:
        self.cluster.kubectl("label", "node", self.cluster.node.name, f"{LABEL}{change}")

    def servers(self) -> dict[str, bool]:
        """Pods of the DaemonSet, also those on their way out, and whether each is ready."""
        selector = f"--selector={COMPONENT}"
        found = json.loads(
            self.cluster.kubectl("get", "pods", selector, f"--namespace={NAMESPACE}", "--output=json").stdout
        )
        return {pod["metadata"]["name"]: _is_ready(pod) for pod in found["items"]}

    def wait_for_server(self) -> None:
        """Until there is one, and it is ready."""
        wait_for("a server pod", lambda: list(self.servers().values()) == [True], 120)

    def topology(self) -> dict[str, Any]:
        names = {"manage": [self.cluster.node.name], "storage": [self.cluster.address]}
        node = {"node": {"hostnames": names, "zone": 1}, "devices": [self.device]}
        return {"clusters": [{"nodes": [node]}]}

    def values(self) -> dict[str, Any]:
        return {
            "image": {"registry": "localhost"},
            "imagePullPolicy": "Never",
            "hosts": {"runner": "kube"},
            "server": {"enabled": True, "image": {"registry": "localhost"}, "directories": [self.device]},
            "log": {"level": "debug"},
            "storageClasses": [{"name": STORAGE_CLASS, "parameters": {"volumeType": "none"}}],
        }


@pytest.fixture
def converged(installed: Installation) -> Iterator[Converged]:
    """In place of the release that the other tests use, which comes back."""
    cluster = installed.cluster
    device = cluster.directory / "gluster"
    device.mkdir()
    one = Converged(cluster, str(device))
    installed.forget_pool()
    installed.uninstall()
    installed.load_server_image()
    one.label("=true")
    installed.install(one.values())
    installed.load_topology(one.topology())
    yield one
    installed.forget_pool()
    installed.uninstall()
    one.label("-")
    installed.install(installed.values())


def test_a_claim_is_served_by_the_nodes_of_the_cluster(converged: Converged) -> None:
    cluster = converged.cluster
    cluster.apply(claim("own"))
    wait_until_bound(cluster, "own")
    cluster.apply(user_pod("stays", "own"))
    wait_until_ready(cluster, "stays")
    execute(cluster, "stays", "sh", "-c", "echo one >/data/file")
    (brick,) = converged.mounted()

    # Replaced: the mounts outlive it, the volume comes back to those who have it mounted.
    cluster.kubectl("delete", "pod", f"--selector={COMPONENT}", f"--namespace={NAMESPACE}")
    converged.wait_for_server()
    assert converged.mounted() == [brick]
    wait_for("the volume, in the pod that had it", lambda: appended(cluster, "two"), 60)

    # As after a start of the node, which has the directories and no mounts.
    converged.label("-")
    wait_for("end of the server pod", lambda: not converged.servers(), 90)
    cluster.node.run(["umount", brick])
    converged.label("=true")
    converged.wait_for_server()
    assert converged.mounted() == [brick]
    wait_for("the volume, in the pod that had it", lambda: appended(cluster, "three"), 60)
    cluster.apply(user_pod("later", "own", "cat /data/file && echo four >>/data/file"))
    wait_until_done(cluster, "later")
    assert cluster.kubectl("logs", "later").stdout == "one\ntwo\nthree\n"

    cluster.kubectl("delete", "pod", "stays", "later", "--now")
    cluster.kubectl("delete", "pvc", "own")
    wait_until_gone(cluster, "pv")
    assert converged.gluster("volume", "list") == ""
    assert converged.mounted() == []
    assert cluster.node.run(["find", converged.device, "-name", "*.img"]).stdout == ""
    # Who asked is told before the record of what was done is removed.
    wait_until_gone(cluster, "glustervolumes,glusteroperations")


def appended(cluster: Cluster, line: str) -> bool:
    """Once: what is there already is not written again."""
    script = f"grep -qx {line} /data/file || echo {line} >>/data/file; grep -qx {line} /data/file"
    with suppress(LabError):
        execute(cluster, "stays", "sh", "-c", script)
        return True
    return False


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]

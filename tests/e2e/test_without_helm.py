"""The kustomize base in place of the chart: an overlay, the pool by ``kubectl apply``, and the main job once more.

It comes last, and takes the release of the chart and its records away first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import csi
from tests.cluster.cluster import Cluster
from tests.cluster.pods import wait_until_done
from tests.e2e.builds import ROOT
from tests.e2e.claims import claim, user_pod, wait_until_gone
from tests.e2e.installation import NAMESPACE, STORAGE_CLASS, Installation
from tests.lab.host import SSH_PORT
from tests.lab.pool import Lab
from tests.lab.system import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(600)]


def pool(lab: Lab) -> list[dict[str, Any]]:
    """As an administrator writes it, under names of his choice."""

    def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
        return {"apiVersion": "csi.gluster.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    found = [manifest("GlusterCluster", "main")]
    for number, host in enumerate(lab.hosts, 1):
        place = {"manage": host.address, "storage": host.address, "zone": host.zone}
        found.append(manifest("GlusterHost", f"storage-{number}", cluster="main", **place))
        found.append(manifest("GlusterDevice", f"bricks-{number}", host=f"storage-{number}", path=host.devices[0]))
    return found


@pytest.fixture
def by_kustomize(installed: Installation, tmp_path: Path) -> Iterator[Installation]:
    installed.forget_pool()
    installed.uninstall()
    cluster = installed.cluster
    overlay: dict[str, Any] = {
        "resources": [os.path.relpath(ROOT / "deploy/kustomize", tmp_path)],
        "images": [{"name": "gluster-csi", "newName": "localhost/gluster-csi", "newTag": csi.__version__}],
    }
    port = {"name": "GLUSTER_CSI_SSH__PORT", "value": str(SSH_PORT)}
    change = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gluster-csi-controller", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [{"name": "controller", "env": [port]}]}}},
    }
    overlay["patches"] = [{"patch": json.dumps(change)}]
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    cluster.kubectl("apply", "--kustomize", str(tmp_path))
    yield installed
    # With the definitions go the records.
    installed.forget_pool()
    words = ("--kustomize", str(tmp_path), "--ignore-not-found", "--timeout=60s")
    cluster.kubectl("delete", *words, check=False)


def test_the_base_does_the_main_job(by_kustomize: Installation) -> None:
    cluster, lab = by_kustomize.cluster, by_kustomize.lab
    for kind in ("deployment/gluster-csi-controller", "daemonset/gluster-csi-node"):
        cluster.kubectl("rollout", "status", kind, f"--namespace={NAMESPACE}", "--timeout=120s", seconds=130)
    cluster.apply(*pool(lab))
    # The hosts are probed, the devices looked at and marked: minutes on a busy machine.
    accepted = ("--for=condition=Accepted", "--timeout=120s")
    cluster.kubectl("wait", "glusterdevices", "--all", *accepted, seconds=130)
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS},
        "provisioner": "csi.gluster.org",
    }
    cluster.apply(storage_class, claim("plain"), user_pod("plain", "plain", "echo text >/data/file && cat /data/file"))
    wait_until_done(cluster, "plain", 120)

    # A device that is deleted while it carries bricks says which, and goes when they have gone.
    cluster.kubectl("delete", "glusterdevices", "--all", "--wait=false")
    wait_for("word of the three bricks", lambda: bricks_named(cluster) == 3, 60)
    cluster.kubectl("delete", "pod/plain", "pvc/plain")
    wait_until_gone(cluster, "pv")
    wait_until_gone(cluster, "glusterdevices")
    cluster.kubectl("delete", "storageclass", STORAGE_CLASS)


def bricks_named(cluster: Cluster) -> int:
    """By the messages of all devices."""
    messages = cluster.kubectl("get", "glusterdevices", "--output=jsonpath={.items[*].status.message}").stdout
    return messages.count("/brick of volume pvc-")

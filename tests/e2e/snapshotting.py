"""What a cluster needs to have snapshots at all: their definitions and the snapshot-controller. No part of a driver."""

from __future__ import annotations

from typing import Any

from tests.cluster.archive import sidecar_image
from tests.cluster.binaries import snapshot_definitions
from tests.cluster.cluster import Cluster

CONTROLLER = "registry.k8s.io/sig-storage/snapshot-controller:v8.6.0"
_NAMESPACE, _NAME = "kube-system", "snapshot-controller"


def install(cluster: Cluster) -> None:
    cluster.import_image(sidecar_image("snapshot-controller", CONTROLLER))
    # As it comes to `kubectl apply`, a definition of this size does not fit into its annotation.
    files = [f"--filename={file}" for file in snapshot_definitions()]
    cluster.kubectl("apply", "--server-side", *files)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)
    cluster.apply(_account(), _rights(), _deployment())
    cluster.kubectl("rollout", "status", f"deployment/{_NAME}", f"--namespace={_NAMESPACE}", "--timeout=60s")


def _account() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _NAME, "namespace": _NAMESPACE}}


def _rights() -> dict[str, Any]:
    """Not under test, so it may do anything."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": _NAME, "namespace": _NAMESPACE}],
    }


def _deployment() -> dict[str, Any]:
    container = {
        "name": "main",
        "image": CONTROLLER,
        "imagePullPolicy": "Never",
        "args": ["--leader-election=false", "--feature-gates=CSIVolumeGroupSnapshot=true"],
    }
    labels = {"app": _NAME}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": _NAME, "namespace": _NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": _NAME, "containers": [container]},
            },
        },
    }

"""Pods of the tests: written down, waited for, asked."""

from __future__ import annotations

from typing import Any

from tests.cluster.archive import BUSYBOX_IMAGE
from tests.cluster.cluster import Cluster

FOREVER = "trap exit TERM; while :; do sleep 1 & wait $!; done"


def pod(name: str, script: str = FOREVER, **spec: Any) -> dict[str, Any]:
    """A pod of one busybox that runs a shell script; ``spec`` adds to the pod's, ``container`` to the container's."""
    container = {
        "name": "main",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def wait_until_ready(cluster: Cluster, name: str, seconds: int = 60) -> None:
    cluster.kubectl("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={seconds}s", seconds=seconds + 10)


def wait_until_done(cluster: Cluster, name: str, seconds: int = 60) -> None:
    """Until its script has come to a good end."""
    wanted = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", f"pod/{name}", wanted, f"--timeout={seconds}s", seconds=seconds + 10)


def execute(cluster: Cluster, name: str, *words: str) -> str:
    """Run a command in the pod; what it wrote."""
    return cluster.kubectl("exec", name, "--", *words).stdout

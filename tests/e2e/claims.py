"""Claims of the tests, and pods that use them as a developer's would: not as root."""

from __future__ import annotations

from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.pods import FOREVER, pod
from tests.e2e.installation import STORAGE_CLASS
from tests.lab.system import wait_for

USER = 4242


def claim(name: str, size: str = "1Gi", mode: str = "ReadWriteMany") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": [mode],
            "storageClassName": STORAGE_CLASS,
            "resources": {"requests": {"storage": size}},
        },
    }


def user_pod(name: str, claim_name: str, script: str = FOREVER, read_only: bool = False) -> dict[str, Any]:
    """A pod that is not root and asks for no group: what it may do, it may by the group that the volume brings."""
    return pod(
        name,
        script,
        securityContext={"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": claim_name, "readOnly": read_only}}],
        container={"volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": read_only}]},
    )


def wait_until_bound(cluster: Cluster, name: str, seconds: int = 60) -> str:
    """The name of the PersistentVolume."""
    wanted = "--for=jsonpath={.status.phase}=Bound"
    cluster.kubectl("wait", f"pvc/{name}", wanted, f"--timeout={seconds}s", seconds=seconds + 10)
    return cluster.kubectl("get", "pvc", name, "--output=jsonpath={.spec.volumeName}").stdout


def wait_until_gone(cluster: Cluster, kind: str, seconds: int = 60) -> None:
    """Until there is no object of the kind any more."""
    wait_for(f"end of every {kind}", lambda: not cluster.kubectl("get", kind, "--output=name").stdout, seconds)


def attributes(name: str, **parameters: str) -> dict[str, Any]:
    """What may change in a volume."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttributesClass",
        "metadata": {"name": name},
        "driverName": "csi.gluster.org",
        "parameters": parameters,
    }

"""A pod that writes blocks with checksums to its volume, reads each back and compares: fio, the node's own."""

from __future__ import annotations

from typing import Any

from tests import verifier
from tests.cluster.cluster import Cluster
from tests.cluster.pods import execute
from tests.e2e.claims import user_pod
from tests.lab.system import wait_for

_ARGUMENTS = verifier.arguments("/data", 3600, {"aux-path": "/tmp", "output": "/tmp/report"})
# By the node's loader and with its libraries: the image of the pod has a shell and no more.
_SCRIPT = """
set -- /host/usr/lib/*-linux-gnu/ld-linux-*.so.*
"$1" --library-path "${1%/*}:${1%/*}/ceph" /host/usr/bin/fio OPTIONS >/tmp/said 2>&1 &
echo $! >/tmp/fio
wait $!
echo "exit $?" >/tmp/end
while :; do sleep 1; done
""".replace("OPTIONS", " ".join(_ARGUMENTS))


def verifying_pod(name: str, claim_name: str) -> dict[str, Any]:
    """It goes on until ``verdict`` asks it to end, or until the first error."""
    pod = user_pod(name, claim_name, _SCRIPT)
    pod["spec"]["volumes"].append({"name": "usr", "hostPath": {"path": "/usr"}})
    (container,) = pod["spec"]["containers"]
    container["volumeMounts"].append({"name": "usr", "mountPath": "/host/usr", "readOnly": True})
    return pod


def goes_on(cluster: Cluster, name: str) -> bool:
    return execute(cluster, name, "sh", "-c", "cat /tmp/end 2>/dev/null || true") == ""


def verdict(cluster: Cluster, name: str) -> dict[str, int]:
    """End it; its error (0: none), and how many blocks it wrote and compared."""
    assert goes_on(cluster, name), execute(cluster, name, "cat", "/tmp/said", "/tmp/report")
    execute(cluster, name, "sh", "-c", "kill -INT $(cat /tmp/fio)")
    wait_for("the end of fio", lambda: not goes_on(cluster, name), 60)
    report = execute(cluster, name, "cat", "/tmp/report")
    return verifier.verdict(report)

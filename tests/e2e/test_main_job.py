"""A developer's claim becomes a mounted volume that a pod which is not root writes to."""

from __future__ import annotations

import json

import pytest

from tests.cluster.pods import execute, wait_until_ready
from tests.e2e.claims import USER, claim, user_pod, wait_until_bound
from tests.e2e.installation import Installation
from tests.lab.system import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(900)]

ANNOTATION = "pv.beta.kubernetes.io/gid"


def test_a_claim_becomes_a_volume_that_two_pods_share(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("shared"))
    volume = wait_until_bound(cluster, "shared")
    found = json.loads(cluster.kubectl("get", "pv", volume, "--output=json").stdout)
    gid = found["spec"]["csi"]["volumeAttributes"]["gid"]
    assert found["metadata"]["annotations"][ANNOTATION] == gid

    cluster.apply(user_pod("writes", "shared"), user_pod("reads", "shared", read_only=True))
    wait_until_ready(cluster, "writes")
    wait_until_ready(cluster, "reads")
    assert execute(cluster, "writes", "id", "-u").strip() == str(USER)
    assert execute(cluster, "writes", "id", "-G").split() == [str(USER), gid]
    execute(cluster, "writes", "sh", "-c", "echo text >/data/file")
    assert execute(cluster, "reads", "cat", "/data/file") == "text\n"
    refused = cluster.kubectl("exec", "reads", "--", "touch", "/data/other", check=False)
    assert "Read-only file system" in refused.stderr

    cluster.kubectl("delete", "pod", "writes", "reads", "--now")
    cluster.kubectl("delete", "pvc", "shared")
    wait_for("end of the volume", lambda: not cluster.kubectl("get", "pv", "--output=name").stdout, 60)

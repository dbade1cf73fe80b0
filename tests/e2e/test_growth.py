"""A claim gets larger, and another VolumeAttributesClass, through csi-resizer, while a pod uses its volume."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.pods import execute, wait_until_ready
from tests.e2e.claims import attributes, claim, user_pod, wait_until_bound, wait_until_gone
from tests.e2e.installation import Installation
from tests.lab.system import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(600)]

GIB = 1 << 30


def claim_status(cluster: Cluster, name: str) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(cluster.kubectl("get", "pvc", name, "--output=json").stdout)["status"]
    return status


def ask_for(cluster: Cluster, name: str, size: str) -> None:
    patch = {"spec": {"resources": {"requests": {"storage": size}}}}
    cluster.kubectl("patch", "pvc", name, f"--patch={json.dumps(patch)}")


def wait_for_size(cluster: Cluster, name: str, size: str) -> None:
    wait_for(f"a claim of {size}", lambda: claim_status(cluster, name)["capacity"]["storage"] == size, 180)


def size_seen(cluster: Cluster, pod: str) -> int:
    return int(execute(cluster, pod, "df", "-kP", "/data").splitlines()[-1].split()[1]) * 1024


def options_of(installed: Installation, volume: str) -> str:
    name = installed.cluster.kubectl(
        "get", "pv", volume, "--output=jsonpath={.spec.csi.volumeAttributes.glusterVolume}"
    ).stdout
    return installed.lab.run("host1", ["gluster", "--mode=script", "volume", "info", name]).stdout


def test_a_claim_gets_larger_while_a_pod_uses_it(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("growing"), user_pod("grower", "growing"))
    wait_until_ready(cluster, "grower")
    execute(cluster, "grower", "sh", "-c", "echo kept >/data/file")
    for size in (2, 3):
        ask_for(cluster, "growing", f"{size}Gi")
        wait_for_size(cluster, "growing", f"{size}Gi")
        assert size_seen(cluster, "grower") >= size * GIB
        assert not claim_status(cluster, "growing").get("conditions")
    assert execute(cluster, "grower", "cat", "/data/file") == "kept\n"
    cluster.kubectl("delete", "pod/grower", "pvc/growing", "--now")
    wait_until_gone(cluster, "pv")


def test_a_claim_that_asked_for_too_much_may_ask_for_less(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("greedy"), user_pod("greedy-user", "greedy"))
    wait_until_ready(cluster, "greedy-user")
    ask_for(cluster, "greedy", "900Gi")
    words = ("get", "events", "--field-selector=reason=VolumeResizeFailed", "--output=jsonpath={..message}")
    wait_for("the reason", lambda: "the largest that fits has" in cluster.kubectl(*words).stdout, 60)
    ask_for(cluster, "greedy", "2Gi")
    wait_for_size(cluster, "greedy", "2Gi")
    assert size_seen(cluster, "greedy-user") >= 2 * GIB
    cluster.kubectl("delete", "pod/greedy-user", "pvc/greedy", "--now")
    wait_until_gone(cluster, "pv")


def test_a_claim_gets_another_attributes_class(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(
        attributes("database", profile="db-workload"),
        attributes("reading", volumeOptions="performance.read-ahead on, performance.io-cache on"),
        attributes("wrong", volumeOptions="features.shard on"),
    )
    wanted = claim("changing")
    wanted["spec"]["volumeAttributesClassName"] = "database"
    cluster.apply(wanted, user_pod("changer", "changing"))
    volume = wait_until_bound(cluster, "changing")
    wait_until_ready(cluster, "changer")
    assert "performance.read-ahead: off" in options_of(installed, volume)

    def change(name: str) -> None:
        cluster.kubectl("patch", "pvc", "changing", f'--patch={{"spec":{{"volumeAttributesClassName":"{name}"}}}}')

    change("reading")
    wait_for(
        "the class", lambda: claim_status(cluster, "changing").get("currentVolumeAttributesClassName") == "reading", 60
    )
    assert "performance.read-ahead: on" in options_of(installed, volume)
    change("wrong")
    wait_for("Infeasible", lambda: "Infeasible" in json.dumps(claim_status(cluster, "changing")), 60)
    change("reading")
    wait_for("its end", lambda: "modifyVolumeStatus" not in claim_status(cluster, "changing"), 120)
    cluster.kubectl("delete", "pod/changer", "pvc/changing", "--now")
    wait_until_gone(cluster, "pv")
    cluster.kubectl("delete", "volumeattributesclass", "database", "reading", "wrong")

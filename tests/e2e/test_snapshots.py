"""Snapshots, restored claims, clones and groups, through csi-snapshotter and its controller, and csi-provisioner."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.pods import execute, wait_until_ready
from tests.e2e.claims import claim, user_pod, wait_until_bound, wait_until_gone
from tests.e2e.installation import SNAPSHOT_CLASS, Installation
from tests.lab.system import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(600)]

_API = "snapshot.storage.k8s.io"
_GROUPS = "groupsnapshot.storage.k8s.io"


def snapshot(name: str, of: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{_API}/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": SNAPSHOT_CLASS, "source": {"persistentVolumeClaimName": of}},
    }


def made_of(name: str, kind: str, source: str, size: str = "1Gi") -> dict[str, Any]:
    """A claim that begins as a copy."""
    wanted = claim(name, size)
    group = {"apiGroup": _API} if kind == "VolumeSnapshot" else {}
    wanted["spec"]["dataSource"] = {"kind": kind, "name": source, **group}
    return wanted


def wait_until_taken(cluster: Cluster, name: str, kind: str = "volumesnapshot") -> None:
    wanted = "--for=jsonpath={.status.readyToUse}=true"
    cluster.kubectl("wait", f"{kind}/{name}", wanted, "--timeout=90s", seconds=100)


def write(cluster: Cluster, pod: str, text: str) -> None:
    execute(cluster, pod, "sh", "-c", f"echo {text} >/data/file && sync")


def gid_of(cluster: Cluster, claim_name: str) -> str:
    volume = wait_until_bound(cluster, claim_name)
    return cluster.kubectl(
        "get", "pv", volume, r"--output=jsonpath={.metadata.annotations.pv\.beta\.kubernetes\.io/gid}"
    ).stdout


def test_a_claim_is_made_of_a_snapshot_and_outlives_it(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("kept"), user_pod("keeper", "kept"))
    wait_until_ready(cluster, "keeper")
    write(cluster, "keeper", "before")
    cluster.apply(snapshot("moment", "kept"))
    wait_until_taken(cluster, "moment")
    write(cluster, "keeper", "after")
    cluster.apply(made_of("restored", "VolumeSnapshot", "moment", "2Gi"), user_pod("reader", "restored"))
    wait_until_ready(cluster, "reader", 120)
    assert execute(cluster, "reader", "cat", "/data/file") == "before\n"
    assert execute(cluster, "keeper", "cat", "/data/file") == "after\n"
    assert gid_of(cluster, "restored") == gid_of(cluster, "kept")
    size = int(execute(cluster, "reader", "df", "-kP", "/data").splitlines()[-1].split()[1]) * 1024
    assert size >= 2 << 30

    # First what they were made of.
    cluster.kubectl("delete", "pod/keeper", "pvc/kept", "--now")
    cluster.kubectl("delete", "volumesnapshot/moment", "--timeout=60s", seconds=70)
    write(cluster, "reader", "again")
    assert execute(cluster, "reader", "cat", "/data/file") == "again\n"
    cluster.kubectl("delete", "pod/reader", "pvc/restored", "--now")
    wait_until_gone(cluster, "pv")
    wait_until_gone(cluster, "volumesnapshotcontents")
    assert cluster.kubectl("get", "glustersnapshots", "--output=name").stdout == ""


def test_a_claim_is_made_of_a_claim_in_use(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("model"), user_pod("modeller", "model"))
    wait_until_ready(cluster, "modeller")
    write(cluster, "modeller", "one")
    cluster.apply(made_of("twin", "PersistentVolumeClaim", "model"), user_pod("other", "twin"))
    wait_until_ready(cluster, "other", 120)
    write(cluster, "modeller", "two")
    assert execute(cluster, "other", "cat", "/data/file") == "one\n"
    cluster.kubectl("delete", "pod/modeller", "pod/other", "pvc/model", "pvc/twin", "--now")
    wait_until_gone(cluster, "pv")


def test_claims_are_taken_together(installed: Installation) -> None:
    cluster = installed.cluster
    for name in ("left", "right"):
        wanted = claim(name)
        wanted["metadata"]["labels"] = {"together": "yes"}
        cluster.apply(wanted, user_pod(f"{name}-user", name))
    for name in ("left", "right"):
        wait_until_ready(cluster, f"{name}-user", 90)
        write(cluster, f"{name}-user", name)
    metadata = {"name": "gluster-groups"}
    group_class = {"kind": "VolumeGroupSnapshotClass", "driver": "csi.gluster.org", "deletionPolicy": "Delete"}
    asked = {
        "volumeGroupSnapshotClassName": "gluster-groups",
        "source": {"selector": {"matchLabels": {"together": "yes"}}},
    }
    cluster.apply(
        {"apiVersion": f"{_GROUPS}/v1beta2", "metadata": metadata, **group_class},
        {
            "apiVersion": f"{_GROUPS}/v1beta2",
            "kind": "VolumeGroupSnapshot",
            "metadata": {"name": "both"},
            "spec": asked,
        },
    )
    wait_until_taken(cluster, "both", "volumegroupsnapshot")
    found = json.loads(cluster.kubectl("get", "volumesnapshots", "--output=json").stdout)["items"]
    members = {one["spec"]["source"]["persistentVolumeClaimName"]: one["metadata"]["name"] for one in found}
    assert sorted(members) == ["left", "right"]
    # A member is used like any other.
    cluster.apply(made_of("of-member", "VolumeSnapshot", members["left"]), user_pod("member-user", "of-member"))
    wait_until_ready(cluster, "member-user", 120)
    assert execute(cluster, "member-user", "cat", "/data/file") == "left\n"

    cluster.kubectl("delete", "volumegroupsnapshot/both", "--timeout=90s", seconds=100)
    pods = ("pod/left-user", "pod/right-user", "pod/member-user")
    cluster.kubectl("delete", *pods, "pvc/left", "pvc/right", "pvc/of-member", "--now")
    wait_until_gone(cluster, "pv")
    wait_for("end of the copies", lambda: not cluster.kubectl("get", "glustersnapshots", "--output=name").stdout, 60)
    cluster.kubectl("delete", "volumegroupsnapshotclass", "gluster-groups")

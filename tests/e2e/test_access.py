"""Ways to have a volume: read-only, for a pod's life only, kept after its claim, made by somebody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.pods import execute, wait_until_done, wait_until_ready
from tests.e2e.claims import USER, claim, user_pod, wait_until_bound, wait_until_gone
from tests.e2e.installation import STORAGE_CLASS, Installation
from tests.lab.pool import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(600)]

GLUSTER = ["gluster", "--mode=script"]
HAND_MADE = "handmade"


def test_a_claim_for_readers_only_is_mounted_read_only(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("readers", mode="ReadOnlyMany"), user_pod("reader", "readers", read_only=True))
    wait_until_ready(cluster, "reader")
    options = execute(cluster, "reader", "grep", " /data ", "/proc/mounts").split()[3].split(",")
    assert "ro" in options
    cluster.kubectl("delete", "pod", "reader", "--now")
    cluster.kubectl("delete", "pvc", "readers")
    wait_until_gone(cluster, "pv")


def test_a_volume_of_a_pod_goes_with_it(installed: Installation) -> None:
    cluster = installed.cluster
    template = {"spec": claim("unused")["spec"]}
    scratch = user_pod("scratch", "unused", "echo text >/data/file && cat /data/file")
    scratch["spec"]["volumes"] = [{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]
    cluster.apply(scratch)
    wait_until_done(cluster, "scratch")
    assert cluster.kubectl("logs", "scratch").stdout == "text\n"
    cluster.kubectl("delete", "pod", "scratch")
    wait_until_gone(cluster, "pv")


def test_what_is_retained_is_had_again_by_a_volume_made_by_hand(installed: Installation) -> None:
    cluster = installed.cluster
    kept = json.loads(cluster.kubectl("get", "storageclass", STORAGE_CLASS, "--output=json").stdout)
    kept = {key: value for key, value in kept.items() if key != "metadata"}
    cluster.apply(kept | {"metadata": {"name": "kept"}, "reclaimPolicy": "Retain"})
    wanted = claim("first")
    wanted["spec"]["storageClassName"] = "kept"
    cluster.apply(wanted, user_pod("writer", "first", "echo precious >/data/file"))
    wait_until_done(cluster, "writer")
    name = wait_until_bound(cluster, "first")
    volume = json.loads(cluster.kubectl("get", "pv", name, "--output=json").stdout)
    cluster.kubectl("delete", "pod/writer", "pvc/first")
    cluster.kubectl("delete", "pv", name)

    with static(installed, volume["spec"]["csi"], volume["metadata"]["annotations"]):
        cluster.apply(user_pod("heir", "static", "cat /data/file; echo more >>/data/file"))
        wait_until_done(cluster, "heir")
        assert cluster.kubectl("logs", "heir").stdout == "precious\n"
        cluster.kubectl("delete", "pod", "heir")
        cluster.kubectl("patch", "pv", "static", '--patch={"spec": {"persistentVolumeReclaimPolicy": "Delete"}}')
    wait_until_gone(cluster, "pv")
    cluster.kubectl("delete", "storageclass", "kept")


def test_a_gluster_volume_that_we_never_made(installed: Installation) -> None:
    cluster = installed.cluster
    with hand_made(installed.lab):
        servers = ",".join(host.address for host in installed.lab.hosts)
        source = {
            "driver": "csi.gluster.org",
            "volumeHandle": "handmade",
            "volumeAttributes": {"glusterVolume": HAND_MADE, "servers": servers},
        }
        with static(installed, source, {}):
            cluster.apply(user_pod("guest", "static", "echo text >/data/file && cat /data/file"))
            wait_until_done(cluster, "guest")
            assert cluster.kubectl("logs", "guest").stdout == "text\n"
            cluster.kubectl("delete", "pod", "guest")


@contextmanager
def static(installed: Installation, source: dict[str, Any], annotations: dict[str, str]) -> Iterator[None]:
    """A PersistentVolume written by an administrator, and a claim bound to it, both called ``static``."""
    cluster = installed.cluster
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "static", "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "csi": source,
        },
    }
    wanted = claim("static")
    wanted["spec"] |= {"storageClassName": "", "volumeName": "static"}
    cluster.apply(volume, wanted)
    wait_until_bound(cluster, "static")
    yield
    cluster.kubectl("delete", "pvc", "static")
    cluster.kubectl("delete", "pv", "static", "--ignore-not-found")


@contextmanager
def hand_made(lab: Lab) -> Iterator[None]:
    """By the gluster command alone; its root belongs to the user of the pods."""
    bricks = [f"{host.address}:{host.devices[0]}/{HAND_MADE}/brick" for host in lab.hosts]
    for host in lab.hosts:
        lab.run(host, ["mkdir", "-p", f"{host.devices[0]}/{HAND_MADE}/brick"])
    lab.run("host1", [*GLUSTER, "volume", "create", HAND_MADE, "replica", str(len(bricks)), *bricks, "force"])
    lab.run("host1", [*GLUSTER, "volume", "set", HAND_MADE, "storage.owner-uid", str(USER)])
    lab.run("host1", [*GLUSTER, "volume", "start", HAND_MADE])
    yield
    lab.run("host1", [*GLUSTER, "volume", "stop", HAND_MADE])
    lab.run("host1", [*GLUSTER, "volume", "delete", HAND_MADE])
    for host in lab.hosts:
        lab.run(host, ["rm", "-rf", f"{host.devices[0]}/{HAND_MADE}"])

"""Nothing beyond the list, and no part without what it needs."""

from __future__ import annotations

import pytest

from tests.chart import rights
from tests.chart.rendering import NAMESPACE, SETS, of_kind, rendered, template, workloads

LEASE = "gluster-csi-controller"


def test_the_default_has_the_list_and_nothing_else() -> None:
    everywhere, within = rights.granted(rendered("default"), "controller")
    assert everywhere == rights.CONTROLLER | rights.PROVISIONER | rights.RESIZER
    assert within == {
        NAMESPACE: {(right, "") for right in rights.LEASE | rights.CAPACITY}
        | {(right, LEASE) for right in rights.NAMED_LEASE}
    }
    assert rights.granted(rendered("default"), "node") == (rights.NODE, {})
    assert rights.granted(rendered("default"), "mounts") == (set(), {})


def test_the_resizer_has_its_own_when_it_is_there() -> None:
    text = template("--set", "resizer.enabled=false")
    assert rights.granted(text, "controller")[0] == rights.CONTROLLER | rights.PROVISIONER


def test_the_snapshotter_is_there_where_the_cluster_has_its_definitions() -> None:
    usual = rights.CONTROLLER | rights.PROVISIONER | rights.RESIZER
    snapshots = usual | rights.SNAPSHOTTER | rights.RESTORER
    for wanted, *arguments in (
        (usual,),
        (snapshots, "--api-versions", "snapshot.storage.k8s.io/v1"),
        (usual, "--api-versions", "snapshot.storage.k8s.io/v1", "--set", "snapshotter.enabled=false"),
        (snapshots, "--set", "snapshotter.enabled=true"),
        (usual, "--set", "snapshotter.groups=true"),
        (snapshots | rights.GROUP_SNAPSHOTTER, "--set", "snapshotter.enabled=true", "--set", "snapshotter.groups=true"),
        (
            snapshots | rights.GROUP_SNAPSHOTTER,
            *("--api-versions", "snapshot.storage.k8s.io/v1,groupsnapshot.storage.k8s.io/v1beta1"),
        ),
    ):
        text = template(*arguments)
        assert rights.granted(text, "controller")[0] == wanted
        gate = "--feature-gates=CSIVolumeGroupSnapshot=true"
        (controller,) = (one for one in workloads(text) if one.part == "controller")
        (given,) = [c["args"] for c in controller.containers if c["name"] == "snapshotter"] or [[]]
        assert (gate in given) is (wanted >= rights.GROUP_SNAPSHOTTER)
        assert bool(given) is (wanted >= rights.SNAPSHOTTER)


def test_commands_in_pods_are_for_one_namespace() -> None:
    text = template("--set", "hosts.runner=kube", "--set", "hosts.kube.namespace=storage")
    everywhere, within = rights.granted(text, "controller")
    assert everywhere == rights.CONTROLLER | rights.PROVISIONER | rights.RESIZER
    assert within["storage"] == {(right, "") for right in rights.HOSTS}
    assert not rights.HOSTS & {right for right, _ in within[NAMESPACE]} - {"get pods"}


def test_a_state_file_needs_no_records_and_no_lease() -> None:
    everywhere, within = rights.granted(rendered("sqlite"), "controller")
    assert not any("gluster.org" in right for right in everywhere)
    assert within == {}


@pytest.mark.parametrize("name", SETS)
def test_nothing_may_read_secrets_or_everything(name: str) -> None:
    for role in of_kind(rendered(name), "ClusterRole", "Role"):
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {"*", "secrets", "escalate", "bind", "impersonate"}, role["metadata"]["name"]


@pytest.mark.parametrize("name", SETS)
def test_who_asks_nothing_has_no_token(name: str) -> None:
    for one in workloads(rendered(name)):
        assert one.pod.get("automountServiceAccountToken", True) is (one.part in {"controller", "node"})

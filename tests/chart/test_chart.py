"""The chart, for six sets of values: lint, schemas of Kubernetes, and what must hold whatever is set."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import csi
from csi import config
from tests.chart.rendering import (
    CHART,
    KUBERNETES,
    ROOT,
    SETS,
    documents,
    environment,
    helm,
    of_kind,
    program,
    rendered,
    template,
    values,
    workload,
    workloads,
)

SCHEMAS = Path(__file__).parent / "schemas" / "{{.ResourceKind}}{{.KindSuffix}}.json"


def conforms(text: str) -> subprocess.CompletedProcess[str]:
    command = [program("kubeconform"), "-strict", "-output", "text", "-schema-location", str(SCHEMAS), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_there_are_six_sets() -> None:
    assert len(SETS) >= 6


@pytest.mark.parametrize("name", SETS)
def test_lint(name: str) -> None:
    kubernetes = "1.35.0" if name == "older" else KUBERNETES
    done = helm("lint", "--strict", "--kube-version", kubernetes, str(CHART), *values(name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SETS)
def test_the_documents_are_kubernetes(name: str) -> None:
    done = conforms(rendered(name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("  attachRequired: false", "  attachRequired: maybe"),
        ("  attachRequired: false", "  attachRequirement: false"),
        ("terminationGracePeriodSeconds: 30", "terminationGrace: 30"),
        ("  policyName: gluster-csi-gid", "  policyNames: gluster-csi-gid"),
    ],
)
def test_the_schemas_see_a_mistake(right: str, wrong: str) -> None:
    assert right in rendered("default")
    assert conforms(rendered("default").replace(right, wrong, 1)).returncode != 0


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("state.backend=etcd", "/state/backend"),
        ("image.digest=sha256:abc", "/image/digest"),
        ("kubeletDir=relative", "/kubeletDir"),
        ("controller.replica=2", "replica"),
        ("storageClasses[0].reclaimPolicy=Keep", "/storageClasses/0"),
        ("metrics.port=70000", "/metrics/port"),
        ("nameOverride=UPPER", "/nameOverride"),
        ("unknown=1", "unknown"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, named: str) -> None:
    done = helm("template", "x", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert named in done.stderr


def test_a_state_file_has_one_controller() -> None:
    done = helm("template", "x", str(CHART), "--set", "state.backend=sqlite")
    assert done.returncode != 0
    assert "controller.replicas must be 1" in done.stderr


def test_every_value_is_described_in_the_schema() -> None:
    """Also those that no set uses: the defaults are held to it by lint; a top-level name must be known."""
    known = set(re.findall(r'^    "(\w+)":', (CHART / "values.schema.json").read_text(), re.MULTILINE))
    given = set(re.findall(r"^(\w+):", (CHART / "values.yaml").read_text(), re.MULTILINE))
    assert given <= known


@pytest.mark.parametrize("name", SETS)
def test_every_variable_is_a_setting(name: str) -> None:
    known = {config.variable(setting) for setting in config.names()}
    for one in workloads(rendered(name)):
        for container in one.containers:
            given = {key for key in environment(container) if key.startswith(config.PREFIX)}
            assert given <= known, one.part


@pytest.mark.parametrize("name", SETS)
def test_the_program_takes_the_settings(name: str) -> None:
    for one in workloads(rendered(name)):
        for container in one.containers:
            said = environment(container).items()
            given = {key: value or "a-node" for key, value in said if value or key.endswith("_ID")}
            config.load(None, given)


# --- what every set must obey ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_who_holds_clients_sees_the_callers_groups(name: str) -> None:
    """A GlusterFS client looks into /proc for them, and finds no process of another PID namespace there."""
    parts = {one.part: one.pod for one in workloads(rendered(name))}
    holder = parts.get("mounts") or parts["node"]
    assert holder["hostPID"] is True


@pytest.mark.parametrize("name", SETS)
def test_only_those_that_mount_are_privileged(name: str) -> None:
    for one in workloads(rendered(name)):
        for container in one.containers:
            security = container["securityContext"]
            if container["name"] in {"node", "mounts", "glusterd"}:
                assert security["privileged"] is True
                continue
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
        assert (
            all(container["securityContext"].get("readOnlyRootFilesystem") for container in one.containers)
            or one.part == "server"
        )


@pytest.mark.parametrize("name", SETS)
def test_the_controller_is_nobody_special(name: str) -> None:
    pod = workload(rendered(name), "controller").pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1500
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    # Below 2000, where the GIDs of volumes begin, and what the image is built with.
    assert "gluster-csi:x:1500:1500:" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SETS)
def test_volumes_are_there_and_used(name: str) -> None:
    for one in workloads(rendered(name)):
        there = {volume["name"] for volume in one.pod["volumes"]}
        used = {mount["name"] for container in one.containers for mount in container["volumeMounts"]}
        assert used <= there, one.part
        assert there - used <= {"registration"}, one.part


@pytest.mark.parametrize("name", SETS)
def test_selectors_find_their_pods(name: str) -> None:
    pods = [one.labels for one in workloads(rendered(name))]
    for one in workloads(rendered(name)):
        wanted = one.document["spec"]["selector"]["matchLabels"].items()
        assert sum(wanted <= labels.items() for labels in pods) == 1, one.part
    for document in of_kind(rendered(name), "Service"):
        assert any(document["spec"]["selector"].items() <= labels.items() for labels in pods)
    for document in of_kind(rendered(name), "PodDisruptionBudget", "NetworkPolicy"):
        chosen = document["spec"].get("selector") or document["spec"]["podSelector"]
        assert any(chosen["matchLabels"].items() <= labels.items() for labels in pods)


@pytest.mark.parametrize("name", SETS)
def test_every_container_says_what_it_needs(name: str) -> None:
    for one in workloads(rendered(name)):
        assert one.pod.get("priorityClassName"), one.part
        assert all(container["resources"].get("requests") for container in one.containers), one.part


@pytest.mark.parametrize("name", SETS)
def test_a_restart_of_mounts_or_server_is_nobodys_but_the_administrators(name: str) -> None:
    for one in workloads(rendered(name)):
        if one.part in {"mounts", "server"}:
            assert one.document["spec"]["updateStrategy"] == {"type": "OnDelete"}
            assert not any("livenessProbe" in container for container in one.containers)
            assert not any("limits" in container["resources"] for container in one.containers)


@pytest.mark.parametrize("name", SETS)
def test_liveness_asks_for_nothing_but_the_loop(name: str) -> None:
    for one in workloads(rendered(name)):
        for container in one.containers:
            if probe := container.get("livenessProbe"):
                assert "service" not in probe["grpc"]


# --- what single values do ---------------------------------------------------------------------------------------


def test_images_by_digest_from_a_mirror() -> None:
    images = {c["image"] for one in workloads(rendered("external")) for c in one.containers}
    assert images == {
        "registry.example/mirror/gluster-csi@sha256:" + "0" * 64,
        "registry.example/mirror/sig-storage/csi-provisioner:v6.3.0",
        "registry.example/mirror/sig-storage/csi-resizer:v2.2.0",
    }


def test_the_version_is_that_of_the_program() -> None:
    assert f"gluster-csi:{csi.__version__}" in rendered("default")
    for dockerfile in ("Dockerfile", "deploy/server/Dockerfile"):
        assert f"ARG VERSION={csi.__version__}\n" in (ROOT / dockerfile).read_text()


def test_settings_reach_every_part() -> None:
    for one in workloads(rendered("external")):
        given = environment(one.containers[0])
        assert given["GLUSTER_CSI_PLACEMENT__MAX_BRICK"] == "1Ti"
        assert given["GLUSTER_CSI_GIDS__REST_SECONDS"] == "7200"


def test_a_class_is_what_was_asked_for() -> None:
    first, second = of_kind(rendered("external"), "StorageClass")
    assert first["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert first["parameters"] == {"volumeType": "replicate:3", "zoneChecking": "strict", "gidMin": "40000"}
    assert (second["reclaimPolicy"], second["volumeBindingMode"]) == ("Retain", "WaitForFirstConsumer")
    assert {c["provisioner"] for c in (first, second)} == {"csi.gluster.org"}


def test_the_kubelets_directory_is_the_same_everywhere() -> None:
    everything = rendered("everything")
    assert "/var/lib/kubelet" not in everything
    node = workload(everything, "node")
    assert environment(node.containers[0])["CSI_ENDPOINT"] == (
        "unix:///var/lib/k0s/kubelet/plugins/store.example.org/csi.sock"
    )
    assert (
        "--kubelet-registration-path=/var/lib/k0s/kubelet/plugins/store.example.org/csi.sock"
        in (node.containers[1]["args"])
    )


def test_each_zone_has_a_node_plug_in_of_its_own() -> None:
    """And its pods are not taken for those of another zone."""
    nodes = [one for one in workloads(rendered("everything")) if one.part == "node"]
    assert [one.pod["nodeSelector"]["topology.gluster.org/zone"] for one in nodes] == ["1", "2"]
    assert [environment(one.containers[0])["GLUSTER_CSI_NODE__ZONE"] for one in nodes] == ["1", "2"]
    assert all(one.pod["nodeSelector"]["kubernetes.io/os"] == "linux" for one in nodes)
    parts = {one.part: environment(one.containers[0]) for one in workloads(rendered("everything"))}
    assert parts["controller"]["GLUSTER_CSI_TOPOLOGY__ZONES"] == parts["node"]["GLUSTER_CSI_TOPOLOGY__ZONES"] == "true"
    assert "--strict-topology" in workload(rendered("everything"), "controller").containers[1]["args"]
    assert "--strict-topology" not in rendered("default")


def test_who_registers_the_node() -> None:
    node = workload(rendered("default"), "node")
    given = environment(node.containers[0])
    assert given["GLUSTER_CSI_NODE__REGISTRATION_DIR"] == "/var/lib/kubelet/plugins_registry"
    assert given["GLUSTER_CSI_NODE__KUBELET_SOCKET"] == "/var/lib/kubelet/plugins/csi.gluster.org/csi.sock"
    assert given["CSI_ENDPOINT"] == "unix://" + given["GLUSTER_CSI_NODE__KUBELET_SOCKET"]
    with_sidecar = environment(workload(rendered("everything"), "node").containers[0])
    assert "GLUSTER_CSI_NODE__REGISTRATION_DIR" not in with_sidecar


@pytest.mark.parametrize(
    ("kubernetes", "more", "version"),
    [
        ("1.36.0", [], "v1"),
        ("1.36.1-gke.5", [], "v1"),
        ("1.35.2", ["--api-versions", "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy"], "v1beta1"),
        ("1.35.2", [], ""),
        ("1.36.0", ["--set", "gidPolicy.enabled=false"], ""),
    ],
)
def test_the_policy_is_of_a_version_that_the_cluster_has(kubernetes: str, more: list[str], version: str) -> None:
    text = template(*more, kubernetes=kubernetes)
    found = {d["apiVersion"] for d in documents(text) if d["kind"].startswith("MutatingAdmissionPolicy")}
    assert found == ({f"admissionregistration.k8s.io/{version}"} if version else set())


def test_a_standby_that_is_not_ready_holds_up_nothing() -> None:
    """Else a rollout waits for it, and a drain for another one to be ready."""
    acting = rendered("everything")
    assert workload(acting, "controller").document["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == "100%"
    assert of_kind(acting, "PodDisruptionBudget") == []
    assert len(of_kind(rendered("default"), "PodDisruptionBudget")) == 1


# --- one source --------------------------------------------------------------------------------------------------


def test_the_kustomize_base_is_the_chart() -> None:
    command = [sys.executable, str(ROOT / "tools" / "manifests.py"), "--check"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"HELM": program("helm")}
    )
    assert done.returncode == 0, f"make manifests would do this:\n{done.stdout}{done.stderr}"


def test_the_kustomize_base_knows_nothing_of_helm() -> None:
    files = list((ROOT / "deploy" / "kustomize").glob("*.yaml"))
    assert len(files) > 5
    assert [file.name for file in files if re.search(r"helm\.sh/|: Helm$", file.read_text(), re.MULTILINE)] == []

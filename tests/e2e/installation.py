"""gluster-csi as an administrator installs it: image, Secret, ConfigMaps, chart."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.archive import sidecar_image
from tests.cluster.binaries import helm
from tests.cluster.cluster import Cluster
from tests.e2e import builds, snapshotting
from tests.lab.host import SSH_PORT
from tests.lab.pool import Lab
from tests.lab.system import LabError, environment, wait_for

CHART = builds.ROOT / "deploy/helm/gluster-csi"
NAMESPACE = "gluster-csi"
RELEASE = "gluster-csi"
STORAGE_CLASS = SNAPSHOT_CLASS = "gluster"
SIDECARS = {
    "csi-provisioner": "registry.k8s.io/sig-storage/csi-provisioner:v6.3.0",
    "csi-resizer": "registry.k8s.io/sig-storage/csi-resizer:v2.2.0",
    "csi-snapshotter": "registry.k8s.io/sig-storage/csi-snapshotter:v8.6.0",
}


class Installation:
    """One release on a cluster, with a laboratory as its external pool."""

    def __init__(self, cluster: Cluster, lab: Lab) -> None:
        self.cluster = cluster
        self.lab = lab

    def load_images(self) -> None:
        """Ours from the Dockerfile, the sidecars from the binaries, under the names that the chart asks for."""
        self._load(builds.DRIVER)
        for program, name in SIDECARS.items():
            self.cluster.import_image(sidecar_image(program, name))

    def load_server_image(self) -> None:
        """The one of GlusterFS itself."""
        self._load(builds.SERVER)

    def _load(self, build: builds.Build) -> None:
        with tempfile.TemporaryDirectory(dir=self.cluster.directory) as directory:
            archive = Path(directory, "image.tar")
            build.make(archive)
            self.cluster.import_archive(archive)

    def values(self) -> dict[str, Any]:
        """Of the chart, for the laboratory as the pool."""
        return {
            "image": {"registry": "localhost"},
            "imagePullPolicy": "Never",
            "hosts": {"runner": "ssh", "ssh": {"port": SSH_PORT}},
            "topology": {"configMap": "topology"},
            "log": {"level": "debug"},
            "storageClasses": [{"name": STORAGE_CLASS, "parameters": {"volumeType": "replicate:3"}}],
            "snapshotClasses": [{"name": SNAPSHOT_CLASS}],
        }

    def prepare(self) -> None:
        """What the administrator makes by hand: snapshots at all, namespace, ssh key, host keys, topology."""
        self.cluster.plug_into(self.lab)
        snapshotting.install(self.cluster)
        known_hosts, topology = self.lab.known_hosts.read_text(), json.dumps(self.lab.topology())
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            _data("Secret", "gluster-csi-ssh", "stringData", {"id_ed25519": self.lab.key_file.read_text()}),
            _data("ConfigMap", "gluster-csi-known-hosts", "data", {"known_hosts": known_hosts}),
            _data("ConfigMap", "topology", "data", {"topology.json": topology}),
        )

    def install(self, values: dict[str, Any], seconds: int = 180) -> None:
        """``helm install``; returns when everything of it is ready. A failure tells what the pods said."""
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.cluster.directory) as file:
            json.dump(values, file)
            file.flush()
            try:
                self._helm("install", str(CHART), f"--values={file.name}", "--wait", f"--timeout={seconds}s")
            except LabError as failed:
                raise LabError(f"{failed}\n{self.describe()}") from failed

    def uninstall(self) -> None:
        with contextlib.suppress(LabError):
            self._helm("uninstall", "--wait", "--timeout=60s")

    def _helm(self, verb: str, *words: str) -> str:
        argv = [helm(), verb, RELEASE, *words, f"--namespace={NAMESPACE}", f"--kubeconfig={self.cluster.kubeconfig}"]
        home = self.cluster.directory / "helm"
        places = {f"HELM_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            argv, text=True, capture_output=True, timeout=600, check=False, env={**environment(), **places}
        )
        if done.returncode != 0:
            raise LabError(f"helm {verb}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def acting(self) -> str:
        """The pod of the controller that acts: the Lease may name one that has gone with the release, for a while."""
        ask = self.cluster.kubectl
        words = ("get", "lease", "gluster-csi-controller", f"--namespace={NAMESPACE}")

        def holder() -> str:
            return ask(*words, "--output=jsonpath={.spec.holderIdentity}", check=False).stdout.partition("_")[0]

        def is_there() -> bool:
            pods = ask("get", "pods", f"--namespace={NAMESPACE}", "--output=name").stdout.split()
            return f"pod/{holder()}" in pods

        wait_for("a controller that acts", is_there, 60)
        return holder()

    def load_topology(self, topology: dict[str, Any]) -> None:
        """By hand, through the controller that acts."""
        self.cluster.kubectl(
            *("exec", "--stdin", self.acting(), f"--namespace={NAMESPACE}", "--container=controller", "--"),
            *("gluster-csi", "topology", "load", "/dev/stdin"),
            stdin=json.dumps(topology),
        )

    def forget_pool(self) -> None:
        """Before the release goes: the records of a pool wait for a controller that lets them go."""
        kinds = "glusterdevices,glusterhosts,glusterclusters"
        self.cluster.kubectl("delete", kinds, "--all", "--timeout=60s", seconds=70)

    def describe(self) -> str:
        """Pods, events and logs of the release: for the message of a failure."""
        ask = self.cluster.kubectl
        parts = [ask("get", "pods,events", f"--namespace={NAMESPACE}", check=False).stdout]
        names = ask("get", "pods", f"--namespace={NAMESPACE}", "--output=name", check=False).stdout.split()
        for name in names:
            words = ("logs", name, "--all-containers", "--prefix", "--tail=40", f"--namespace={NAMESPACE}")
            parts.append(ask(*words, check=False).stdout)
        return "\n".join(parts)


def _data(kind: str, name: str, field: str, values: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, field: values}

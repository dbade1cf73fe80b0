"""Kubernetes on one node: control plane, kubelet and containerd as processes of a machine of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

from tests.cluster import archive, configuration, groups, network, processes
from tests.cluster.archive import HandMade
from tests.cluster.controlplane import is_ready, kubectl
from tests.cluster.credentials import Credentials, make_credentials
from tests.cluster.node import Node, remove_disk
from tests.cluster.processes import API_SERVICE, Endpoints
from tests.lab.pool import Lab
from tests.lab.system import LabError, alive, command_line, locked, missing, wait_for
from tests.lab.system import processes as system_processes

_INSTANCE = re.compile(r"[a-z0-9]{1,8}")
_READY_SECONDS = 90
# In the order of their start. What is after depends on what is before.
PROCESSES = ("etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kubelet")


class Cluster:
    """A cluster of one node. One that is up already can be taken over: all that is needed lies in its directory."""

    def __init__(self, instance: str = "a", directory: Path | None = None) -> None:
        """``directory``: where to make the cluster's own; default: the temporary directory."""
        if not _INSTANCE.fullmatch(instance):
            raise LabError(f"instance {instance!r}: one to eight characters of a-z and 0-9 (it is part of link names)")
        self.instance = instance
        # An instance exists once on a machine: if it is up in another directory, that one counts, so `down` finds it.
        self._pointer = Path(f"/run/gluster-cluster-{instance}")
        parent = directory or Path(tempfile.gettempdir())
        self.directory = self._pointer.resolve() if self._pointer.exists() else parent.absolute() / self._pointer.name
        self.node = Node(instance, self.directory)

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def is_up(self) -> bool:
        """Did ``up`` come to its end, and does the node still run?"""
        return self._record.exists() and self.node.init() is not None

    @property
    def address(self) -> str:
        """Of the node, from this machine and from the pods."""
        if not self._record.exists():
            raise LabError(f"cluster {self.instance} is not up")
        return str(json.loads(self._record.read_text())["address"])

    @property
    def url(self) -> str:
        return self._endpoints(self.address).url

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.directory / "pki")

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.credentials.kubeconfig("admin")

    @property
    def _record(self) -> Path:
        return self.directory / "cluster.json"

    @staticmethod
    def _endpoints(address: str) -> Endpoints:
        return Endpoints(address, api=6443, etcd=2379, etcd_peers=2380)

    # ------------------------------------------------------------------------------------------- up and down

    def up(self) -> None:
        """Returns when the node is ready for pods. Up already: nothing to do."""
        if reason := missing():
            raise LabError(reason)
        with locked(f"cluster-{self.instance}"):
            if self.is_up:
                return
            self._down()
            try:
                self._up()
            except BaseException:
                self._down()
                raise

    def _up(self) -> None:
        self._pointer.unlink(missing_ok=True)
        self._pointer.symlink_to(self.directory)
        self.directory.mkdir(mode=0o755, parents=True)
        subnet = network.make_network(self.instance)
        self._configure(subnet)
        self.node.boot()
        for path, text in (
            ("/etc/containerd.toml", configuration.containerd()),
            ("/etc/cni/net.d/pods.conflist", configuration.pod_network()),
            ("/etc/kubelet.json", configuration.kubelet(self.credentials)),
        ):
            file = self.node.inside(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        address = str(subnet[2])
        network.serve_api(self.instance, address, self._endpoints(address).api)
        with ThreadPoolExecutor(2) as side:
            images = side.submit(self._start_containers)
            for name in ("etcd", "kube-apiserver"):
                self._start(name, address)
            self._wait("kube-apiserver", lambda: is_ready(self._endpoints(address).url, self.credentials))
            for name in ("kube-controller-manager", "kube-scheduler"):
                self._start(name, address)
            images.result()
        self._start("kubelet", address)
        self._wait("kubelet", self._takes_pods)
        self._record.write_text(json.dumps({"address": address}))

    def _configure(self, subnet: IPv4Network) -> None:
        address = str(subnet[2])
        names = [address, "127.0.0.1", API_SERVICE, "kubernetes.default.svc", "kubernetes.default", "kubernetes"]
        make_credentials(
            self.credentials.directory,
            self._endpoints(address).url,
            names,
            {
                "controller-manager": ("system:kube-controller-manager", ""),
                "scheduler": ("system:kube-scheduler", ""),
                "kubelet": (f"system:node:{self.node.name}", "system:nodes"),
            },
        )

    def _start_containers(self) -> None:
        self.node.start("containerd", self._command("containerd", ""))
        self._wait("containerd", lambda: self.node.run(["ctr", "version"], check=False).returncode == 0)
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            for image in (archive.pause_image(Path(directory)), archive.busybox_image()):
                self._import_hand_made(image, Path(directory))

    def _command(self, process: str, address: str) -> list[str]:
        endpoints = self._endpoints(address)
        match process:
            case "etcd":
                return processes.etcd(endpoints, self.directory / "etcd")
            case "kube-apiserver":
                return processes.api_server(endpoints, self.credentials)
            case "containerd":
                return processes.containerd(Path("/etc/containerd.toml"))
            case "kube-controller-manager":
                return processes.controller_manager(self.credentials)
            case "kube-scheduler":
                return processes.scheduler(self.credentials)
            case "kubelet":
                return processes.kubelet(Path("/etc/kubelet.json"), self.credentials, self.node.name, address)
        raise LabError(f"a cluster has no process {process}: there are {', '.join(PROCESSES)}")

    def _start(self, process: str, address: str) -> None:
        self.node.start(process, self._command(process, address))

    def _wait(self, process: str, ready: Callable[[], bool]) -> None:
        def settled() -> bool:
            if self.node.pid(process) is None:
                said = self.node.log(process).read_text(errors="replace")[-2000:]
                raise LabError(f"{process} ended; it says:\n{said}")
            return ready()

        wait_for(f"{process} (see {self.node.log(process)})", settled, _READY_SECONDS)

    def _takes_pods(self) -> bool:
        """The node is ready, and the account is there without which a pod is refused."""
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        words = ("get", "node", self.node.name, f"--output=jsonpath={path}")
        if kubectl(self.kubeconfig, words, check=False).stdout != "True":
            return False
        return kubectl(self.kubeconfig, ("get", "serviceaccount", "default"), check=False).returncode == 0

    def down(self) -> None:
        """Remove everything of this instance, also what a crash left. Harmless if nothing is there."""
        with locked(f"cluster-{self.instance}"):
            self._down()

    def _down(self) -> None:
        # Commands that a killed `up` started run on for a moment, and may still make things.
        wait_for(f"end of the commands of an interrupted `up` of cluster {self.instance}", self._no_stragglers, 20)
        self.node.power_off()
        remove_disk(self.directory)
        self._pointer.unlink(missing_ok=True)

    def _no_stragglers(self) -> bool:
        tools = ("ip", "gcc", "cc1", "as", "collect2", "ld", "nsenter")
        script = str(self.directory / "node.sh")
        own, inside = network.names(self.instance), f"{self.directory}/"
        members = groups.members(self.instance)
        for pid in system_processes():
            program, *words = command_line(pid) or [""]
            names_us = any(word in own or inside in word for word in words) and os.path.basename(program) in tools
            if (names_us or script in words) and pid not in members:
                return False
        return True

    # ------------------------------------------------------------------------------------------- its processes

    def stop(self, process: str, how: signal.Signals = signal.SIGTERM, seconds: float = 30) -> None:
        """End one of ``PROCESSES``, and wait until it is gone. Pods go on."""
        pid = self.node.pid(process)
        if pid is not None:
            os.kill(pid, how)
            wait_for(f"end of {process}", lambda: not alive(pid), seconds)

    def start(self, process: str) -> None:
        """Start what was stopped. Returns at once."""
        if self.node.pid(process) is None:
            self._start(process, self.address)

    def restart(self, process: str) -> None:
        self.stop(process)
        self.start(process)

    # ------------------------------------------------------------------------------------------------ use

    def kubectl(
        self, *words: str, stdin: str | None = None, check: bool = True, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """As the administrator. With ``check`` a failure is an error that says what it said."""
        return kubectl(self.kubeconfig, words, stdin, check, seconds)

    def apply(self, *objects: Mapping[str, object]) -> None:
        """``kubectl apply`` of objects as Kubernetes knows them."""
        self.kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def import_archive(self, path: Path) -> None:
        """Load the images of a docker archive, below the cluster's directory or not, so that pods can use them."""
        with path.open("rb") as file:
            self.node.run(["ctr", "--namespace=k8s.io", "images", "import", "-"], stdin=file, timeout=120)

    def import_image(self, image: HandMade) -> None:
        """Pack and load an image of few files."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            self._import_hand_made(image, Path(directory))

    def _import_hand_made(self, image: HandMade, directory: Path) -> None:
        packed = directory / "image.tar"
        archive.pack(image, packed)
        self.import_archive(packed)

    def plug_into(self, lab: Lab) -> str:
        """Node and pods reach the hosts of this laboratory; the node's address there."""
        return network.plug_into_lab(self.instance, lab)

    def leftovers(self) -> list[str]:
        """What of this instance is on the machine, a line for each; empty after ``down``."""
        found = [f"process {pid}" for pid in groups.members(self.instance)]
        found += [f"control group {path}" for path in groups.groups(self.instance)]
        found += network.leftovers(self.instance)
        found += [f"file {path}" for path in (self.directory, self._pointer) if path.exists() or path.is_symlink()]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return found + [f"mount {line}" for line in mounts if f"{self.directory}/" in line]

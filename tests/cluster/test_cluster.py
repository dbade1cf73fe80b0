"""The node of the tests: pods run on it, it survives what it must, and it goes without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import images
from tests.cluster.cluster import PROCESSES, Cluster
from tests.cluster.pods import execute, pod, wait_until_done, wait_until_ready
from tests.lab.system import alive, call, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

# What a kubelet and containerd are known to change on the machine they run on.
_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
_PLACES = ("/var/lib/kubelet", "/var/lib/cni", "/etc/cni/net.d/pods.conflist", "/run/cni", "/run/containerd")


@contextmanager
def running(cluster: Cluster, description: dict[str, object], name: str) -> Iterator[None]:
    cluster.apply(description)
    try:
        yield
    finally:
        cluster.kubectl("delete", "pod", name, "--now")


def machine() -> dict[str, object]:
    """What a cluster could leave on the machine, and is not named after it. Others may run beside this test."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # Namespaces of the network, which all of ours are named alike: a laboratory beside this test may come or go.
    mounts = [path for path in mounts if not path.startswith(("/run/netns/gl-", "/run/netns/gc-"))]
    links = [name for name in os.listdir("/sys/class/net") if not name.startswith(("glb-", "glv-", "gcl-", "gcv-"))]
    return {
        "settings": {name: Path("/proc/sys", name).read_text() for name in _SETTINGS},
        "mounts": sorted(
            path for path in mounts if path.startswith(("/var/lib/", "/run/", "/sys/", "/proc/", "/etc/"))
        ),
        "links": sorted(links),
        "groups": list(Path("/sys/fs/cgroup").glob("*/kubepods")),
        "rules": [line for line in call("iptables-save").splitlines() if not line.startswith("#")],
        "places": [path for path in _PLACES if Path(path).exists()],
    }


def test_a_pod_runs_and_says_so(cluster: Cluster) -> None:
    with running(cluster, pod("speaks", "echo from the pod"), "speaks"):
        wait_until_done(cluster, "speaks")
        assert cluster.kubectl("logs", "speaks").stdout == "from the pod\n"


def test_a_command_runs_in_a_pod(cluster: Cluster) -> None:
    with running(cluster, pod("works"), "works"):
        wait_until_ready(cluster, "works")
        assert execute(cluster, "works", "hostname") == "works\n"
        failed = cluster.kubectl("exec", "works", "--", "sh", "-c", "exit 7", check=False)
        assert failed.returncode == 7


def test_a_pod_reaches_the_api_by_its_service(cluster: Cluster) -> None:
    """The address, the certificate's authority and the account's token are where every client looks for them."""
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    with running(cluster, pod("asks"), "asks"):
        wait_until_ready(cluster, "asks")
        assert execute(cluster, "asks", "sh", "-c", "echo $KUBERNETES_SERVICE_HOST") == "10.96.0.1\n"
        execute(cluster, "asks", "sh", "-c", "echo | nc -w 5 10.96.0.1 443")
        assert execute(cluster, "asks", "cat", f"{account}/ca.crt") == cluster.credentials.ca.read_text()
        assert execute(cluster, "asks", "cat", f"{account}/token").count(".") == 2


def test_a_mount_of_a_privileged_pod_is_seen_by_others(cluster: Cluster) -> None:
    """What a node plug-in does: mount below the kubelet's directory, with propagation to the host and from there."""
    place = {"name": "place", "hostPath": {"path": "/var/lib/kubelet/seen", "type": "DirectoryOrCreate"}}

    def sees(propagation: str, privileged: bool) -> dict[str, object]:
        mount = {"name": "place", "mountPath": "/seen", "mountPropagation": propagation}
        return {"securityContext": {"privileged": privileged}, "volumeMounts": [mount]}

    mounter = pod("mounts", volumes=[place], container=sees("Bidirectional", True))
    reader = pod("reads", volumes=[place], container=sees("HostToContainer", False))
    with running(cluster, mounter, "mounts"), running(cluster, reader, "reads"):
        wait_until_ready(cluster, "mounts")
        wait_until_ready(cluster, "reads")
        script = "mkdir -p /seen/in && mount -t tmpfs seen /seen/in && echo text >/seen/in/file && test -c /dev/fuse"
        execute(cluster, "mounts", "sh", "-c", script)
        assert execute(cluster, "reads", "cat", "/seen/in/file") == "text\n"
        assert cluster.node.inside("/var/lib/kubelet/seen/in/file").read_text() == "text\n"
        execute(cluster, "mounts", "umount", "/seen/in")
        assert not cluster.node.inside("/var/lib/kubelet/seen/in/file").exists()


def test_pods_outlive_a_kubelet_that_restarts(cluster: Cluster) -> None:
    with running(cluster, pod("stays"), "stays"):
        wait_until_ready(cluster, "stays")
        before = cluster.node.pid("kubelet")
        cluster.restart("kubelet")
        assert cluster.node.pid("kubelet") not in (None, before)
        wait_for(
            "exec after the restart",
            lambda: not cluster.kubectl("exec", "stays", "--", "true", check=False).returncode,
            60,
        )
        counts = cluster.kubectl("get", "pod", "stays", "-o=jsonpath={.status.containerStatuses[0].restartCount}")
        assert counts.stdout == "0"


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    before = [cluster.node.pid(process) for process in PROCESSES]
    assert None not in before
    Cluster(cluster.instance).up()
    assert [cluster.node.pid(process) for process in PROCESSES] == before


def test_an_image_from_a_dockerfile_runs(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        'ARG BASE\nFROM ${BASE}\nARG WORD\nRUN printf "$WORD" >/word\nUSER 1500:1500\nENTRYPOINT ["cat", "/word"]\n'
    )
    packed = tmp_path / "image.tar"
    images.build(tmp_path, "localhost/built:tests", {"WORD": tmp_path.name}, packed)
    cluster.import_archive(packed)
    built = {"image": "localhost/built:tests", "command": None}
    with running(cluster, pod("built", container=built), "built"):
        wait_until_done(cluster, "built")
        assert cluster.kubectl("logs", "built").stdout == tmp_path.name


def test_down_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    """With pods that run, and a mount that one of them made."""
    before = machine()
    cluster = Cluster(f"d{os.getpid() % 0xFFFFFF:x}", tmp_path)
    try:
        began = time.monotonic()
        cluster.up()
        assert time.monotonic() - began < 60
        place = {"name": "place", "hostPath": {"path": "/var/lib/kubelet/seen", "type": "DirectoryOrCreate"}}
        mount = {"name": "place", "mountPath": "/seen", "mountPropagation": "Bidirectional"}
        container = {"securityContext": {"privileged": True}, "volumeMounts": [mount]}
        cluster.apply(pod("mounts", volumes=[place], container=container))
        wait_until_ready(cluster, "mounts")
        execute(cluster, "mounts", "mount", "-t", "tmpfs", "seen", "/seen")
        assert cluster.leftovers(), "nothing would be found after `down` either"
    finally:
        cluster.down()
    assert cluster.leftovers() == []
    assert machine() == before
    assert not list(tmp_path.iterdir())
    cluster.down()  # a second time is harmless


@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_a_killed_up_is_cleared_by_down(seconds: float, tmp_path: Path) -> None:
    """Half a node: namespaces and files without a record of them."""
    before = machine()
    instance = f"k{os.getpid() % 0xFFFFFF:x}"
    cluster = Cluster(instance, tmp_path)
    script = "\n".join(
        (
            "import sys",
            "from pathlib import Path",
            "from tests.cluster.cluster import Cluster",
            "Cluster(sys.argv[1], Path(sys.argv[2])).up()",
        )
    )
    try:
        with subprocess.Popen([sys.executable, "-c", script, instance, tmp_path]) as up:
            wait_for("the first trace of it", lambda: bool(cluster.leftovers()), 20)
            time.sleep(seconds)
            assert alive(up.pid)
            os.kill(up.pid, signal.SIGKILL)
        assert cluster.leftovers()
    finally:
        Cluster(instance).down()
    assert cluster.leftovers() == []
    assert machine() == before

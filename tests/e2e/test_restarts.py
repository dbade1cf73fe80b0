"""Parts of the installation end, are killed, are replaced: what pods have goes on, what is asked for comes, once."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.pods import execute, wait_until_done, wait_until_ready
from tests.e2e.claims import claim, user_pod, wait_until_bound, wait_until_gone
from tests.e2e.installation import NAMESPACE, Installation
from tests.e2e.verifying import goes_on, verdict, verifying_pod
from tests.lab.system import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.lab, pytest.mark.timeout(900)]

DRIVER = "csi.gluster.org"
RESTARTS = int(os.environ.get("KILLS", "20"))

# Writes numbered blocks, each fsynced, reads each back, and compares. Its last words are how many, or what was wrong.
WRITER = """
n=0
while [ ! -e /tmp/stop ]; do
    n=$((n + 1))
    seq "$n" "$((n + 2000))" >/tmp/block
    dd if=/tmp/block of=/data/block conv=fsync 2>/dev/null || { echo "write $n failed" >/tmp/end; exit 1; }
    cmp -s /tmp/block /data/block || { echo "block $n differs" >/tmp/end; exit 1; }
    echo "$n" >/tmp/next && mv /tmp/next /tmp/count
    sleep 0.1
done
echo "good" >/tmp/end
while :; do sleep 1; done
"""


def ours(cluster: Cluster, component: str) -> list[str]:
    """The names of the pods of a part."""
    selector = f"--selector=app.kubernetes.io/component={component}"
    found = cluster.kubectl("get", "pods", selector, f"--namespace={NAMESPACE}", "--output=json").stdout
    return [pod["metadata"]["name"] for pod in json.loads(found)["items"] if "deletionTimestamp" not in pod["metadata"]]


def wait_until_registered(cluster: Cluster) -> None:
    def registered() -> bool:
        found = cluster.kubectl("get", "csinodes", "--output=jsonpath={.items[*].spec.drivers[*].name}").stdout
        return DRIVER in found.split()

    wait_for("registration of the node plug-in", registered, 120)


def kill_plugin(cluster: Cluster) -> None:
    """As the kernel does it when memory runs out."""

    def killed() -> bool:
        return cluster.node.run(["pkill", "-KILL", "-f", "gluster-csi node$"], check=False).returncode == 0

    wait_for("a node plug-in to kill", killed, 60)


def roll_out(cluster: Cluster) -> None:
    """As with another image: a new template, and pods of it."""
    cluster.kubectl("rollout", "restart", "daemonset/gluster-csi-node", f"--namespace={NAMESPACE}")


def delete_plugin(cluster: Cluster) -> None:
    cluster.kubectl("delete", "pod", *ours(cluster, "node"), f"--namespace={NAMESPACE}", "--wait=false")


def wait_until_serving(cluster: Cluster) -> None:
    words = ("rollout", "status", "daemonset/gluster-csi-node", f"--namespace={NAMESPACE}", "--timeout=120s")
    wait_for("a pod of the node plug-in", lambda: len(ours(cluster, "node")) == 1, 120)
    cluster.kubectl(*words, seconds=130)


def test_the_node_plugin_registers_again_after_the_kubelet_was_restarted(installed: Installation) -> None:
    cluster = installed.cluster
    wait_until_registered(cluster)
    cluster.restart("kubelet")
    wait_until_registered(cluster)
    cluster.apply(claim("after"), user_pod("after", "after", "echo text >/data/file && cat /data/file"))
    wait_until_done(cluster, "after", 120)
    cluster.kubectl("delete", "pod/after", "pvc/after")
    wait_until_gone(cluster, "pv")


@pytest.mark.parametrize("force", [(), ("--force", "--grace-period=0")], ids=["gracefully", "by-force"])
def test_a_pod_deleted_while_the_kubelet_is_away_leaves_no_mount(
    installed: Installation, force: tuple[str, ...]
) -> None:
    """What the disruptive specs of the external storage suite want, which need sshd and systemd on the node."""
    cluster = installed.cluster
    cluster.apply(claim("left"), user_pod("leaves", "left"), user_pod("stays", "left"))
    volume = wait_until_bound(cluster, "left")
    wait_until_ready(cluster, "leaves")
    wait_until_ready(cluster, "stays")
    execute(cluster, "stays", "sh", "-c", "echo before >/data/file")
    uid = cluster.kubectl("get", "pod", "leaves", "--output=jsonpath={.metadata.uid}").stdout
    assert any(uid in path for path in mounted(cluster))
    cluster.stop("kubelet")
    cluster.kubectl("delete", "pod", "leaves", "--wait=false", *force)
    cluster.start("kubelet")
    wait_for("end of the pod's mount", lambda: not any(uid in path for path in mounted(cluster)), 120)
    wait_for("the pod that stays", lambda: _reads(cluster, "before"), 60)
    cluster.kubectl("delete", "pod", "stays", "--now")
    cluster.kubectl("delete", "pvc", "left")
    wait_until_gone(cluster, "pv", 120)
    wait_for("end of the staged mount", lambda: not any(_is_ours(path) for path in mounted(cluster)), 60)
    assert not any(volume in path for path in mounted(cluster))


def mounted(cluster: Cluster) -> list[str]:
    """What is mounted on the node."""
    return cluster.node.run(["findmnt", "--noheadings", "--list", "--output=TARGET"]).stdout.split()


def _is_ours(path: str) -> bool:
    return path.startswith(f"/var/lib/kubelet/plugins/kubernetes.io/csi/{DRIVER}/")


def _reads(cluster: Cluster, text: str) -> bool:
    """As soon as the kubelet answers again."""
    return cluster.kubectl("exec", "stays", "--", "cat", "/data/file", check=False).stdout == f"{text}\n"


def test_pods_write_on_while_the_node_plugin_is_ended_in_every_way(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.apply(claim("steady"), user_pod("steady", "steady", WRITER))
    cluster.apply(claim("verified"), verifying_pod("verifier", "verified"))
    wait_until_ready(cluster, "steady")
    wait_until_ready(cluster, "verifier")
    wait_for("first block", lambda: execute(cluster, "steady", "sh", "-c", "cat /tmp/count || true") != "", 30)
    before = written = int(execute(cluster, "steady", "cat", "/tmp/count"))
    for number in range(RESTARTS):
        (delete_plugin, kill_plugin, roll_out)[number % 3](cluster)
        time.sleep(0.5)
        wait_until_serving(cluster)
        said = execute(cluster, "steady", "sh", "-c", "cat /tmp/end 2>/dev/null || cat /tmp/count")
        assert int(said) >= written, said
        written = int(said)
        assert goes_on(cluster, "verifier")
    found = verdict(cluster, "verifier")
    assert found["error"] == 0
    assert min(found["written"], found["read"]) > 100, found  # each block read was compared
    execute(cluster, "steady", "touch", "/tmp/stop")
    wait_for("the writer's last words", lambda: "good" in _end(cluster), 30)
    assert written > before
    # The next pods mount as ever, also the same volume.
    cluster.apply(user_pod("next", "steady", "cmp /data/block /data/block && echo same"))
    wait_until_done(cluster, "next", 120)
    cluster.kubectl("delete", "pod", "steady", "verifier", "next", "--now")
    cluster.kubectl("delete", "pvc", "steady", "verified")
    wait_until_gone(cluster, "pv")
    print(f"{RESTARTS} ends of the node plug-in: {written - before} blocks fsynced, read back and compared, 0 errors")
    print(f"fio meanwhile: {found}")


def _end(cluster: Cluster) -> str:
    return execute(cluster, "steady", "sh", "-c", "cat /tmp/end 2>/dev/null || true")


def test_a_controller_that_is_deleted_in_mid_create_leaves_one_volume(installed: Installation) -> None:
    cluster, lab = installed.cluster, installed.lab
    for number, pause in enumerate((0.1, 0.4, 0.8)):
        name = f"orphan-{number}"
        cluster.apply(claim(name))
        time.sleep(pause)
        holder = cluster.kubectl(
            "get",
            "lease",
            "gluster-csi-controller",
            f"--namespace={NAMESPACE}",
            "--output=jsonpath={.spec.holderIdentity}",
        ).stdout
        words = ("delete", "pod", holder.partition("_")[0], f"--namespace={NAMESPACE}", "--force", "--grace-period=0")
        cluster.kubectl(*words, check=False)
        wait_until_bound(cluster, name, 180)
        assert len(lab.run("host1", ["gluster", "--mode=script", "volume", "list"]).stdout.split()) == 1
        assert len(cluster.kubectl("get", "glustervolumes", "--output=name").stdout.split()) == 1
        cluster.kubectl("delete", "pvc", name)
        wait_until_gone(cluster, "pv", 120)
    # Who asked is told before the record of what was done is removed.
    wait_until_gone(cluster, "glusteroperations")

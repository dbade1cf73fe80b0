"""Mounts outlive the program: node plug-in and mounts daemon are killed again and again while a writer verifies.

The writer is ``fio``: it writes blocks with checksums to the volume of a published pod, reads them back and
compares; any error ends it. After each kill another pod gets a volume and gives it back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csi.api import csi_pb2 as pb
from csi.mounts import mountinfo
from tests import verifier
from tests.driver import Driver, patiently
from tests.lab import Lab
from tests.mounts_daemon import MountsDaemon

pytestmark = pytest.mark.lab

TIMES = int(os.environ.get("KILLS", "20"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[MountsDaemon]:
    daemon = MountsDaemon(tmp_path / "mounts")
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture
def controller(clean_lab: Lab, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(clean_lab, tmp_path / "controller", settings={"gids": {"rest_seconds": 0}})
    driver.start()
    yield driver
    driver.remove()


def node_of(controller: Driver, directory: Path, **settings: object) -> Driver:
    command = (sys.executable, "-m", "csi", "node")
    return Driver(controller.lab, directory, {"node": {"watch_interval": 0.5, **settings}}, command)


@pytest.fixture(params=["daemon", "direct"])
def node(request: pytest.FixtureRequest, controller: Driver, tmp_path: Path) -> Iterator[Driver]:
    """The node plug-in as a process of its own; its pods live below ``place``."""
    settings = {"mounts_socket": str(request.getfixturevalue("daemon").address)} if request.param == "daemon" else {}
    node = node_of(controller, tmp_path / "node", **settings)
    node.start(topology=False)
    yield node
    node.remove()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "mounts" / "kubelet"
    place.mkdir(parents=True, exist_ok=True)
    return place


class Pod:
    """A volume staged and published for one pod."""

    def __init__(self, node: Driver, volume: pb.Volume, place: Path, name: str) -> None:
        self.node, self.volume = node, volume
        self.staging = place / f"{name}-staging"
        self.target = place / f"{name}-target"

    def start(self) -> None:
        self.staging.mkdir(exist_ok=True)
        with self.node.client() as client:
            patiently(lambda: client.stage(self.volume, self.staging))
            patiently(lambda: client.publish(self.volume, self.staging, self.target))

    def end(self) -> None:
        with self.node.client() as client:
            patiently(lambda: client.unpublish(self.volume, self.target))
            patiently(lambda: client.unstage(self.volume, self.staging))


def writer(directory: Path, seconds: int = 600) -> subprocess.Popen[str]:
    """Runs until it is told to end, or an error ends it."""
    command = ["fio", *verifier.arguments(str(directory), seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def verdict(fio: subprocess.Popen[str]) -> dict[str, int]:
    """Ask it to end; what it wrote and read, and its errors."""
    assert fio.poll() is None, fio.communicate()
    fio.send_signal(signal.SIGINT)
    out, err = fio.communicate(timeout=60)
    assert not err.strip(), err
    return verifier.verdict(out)


def crash_again_and_again(
    controller: Driver, node: Driver, place: Path, crash: Callable[[], None], times: int = TIMES
) -> None:
    with controller.client() as client:
        volume, other = client.create("pvc-writer"), client.create("pvc-other")
        pod = Pod(node, volume, place, "writer")
        pod.start()
        clients = own_clients(node)
        assert len(clients) == 1
        with writer(pod.target) as fio:
            try:
                for turn in range(times):
                    crash()
                    assert fio.poll() is None, fio.communicate()
                    next_pod = Pod(node, other, place, f"pod-{turn}")
                    next_pod.start()
                    (next_pod.target / "file").write_text(str(turn))
                    assert (next_pod.target / "file").read_text() == str(turn)
                    next_pod.end()
                found = verdict(fio)
            finally:
                fio.kill()
        assert found["error"] == 0
        assert min(found["written"], found["read"]) > 100, found  # each block read was compared
        print(f"{times} times, fio: {found}")
        assert own_clients(node) == clients
        pod.end()
        assert own_clients(node) == []
        assert not [entry.path for entry in mountinfo.read() if entry.path.startswith(f"{place}/")]
        assert sorted(path.name for path in place.iterdir()) == []
        for one in (volume, other):
            client.delete(one.volume_id)


def own_clients(node: Driver) -> list[int]:
    """The GlusterFS clients whose log is below the test's directory."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and f"--log-file={node.directory.parent}/".encode() in (
                (process / "cmdline").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_node_plug_in_is_killed(controller: Driver, node: Driver, place: Path) -> None:
    def crash() -> None:
        node.stop(signal.SIGKILL)
        node.start(topology=False)

    crash_again_and_again(controller, node, place, crash)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("node", ["daemon"], indirect=True)
def test_the_mounts_daemon_is_killed(controller: Driver, node: Driver, daemon: MountsDaemon, place: Path) -> None:
    crash_again_and_again(controller, node, place, daemon.crash)
    assert daemon.zombies() == []


@pytest.mark.parametrize("node", ["daemon"], indirect=True)
def test_without_the_daemon_what_is_mounted_goes_on(
    controller: Driver, node: Driver, daemon: MountsDaemon, place: Path
) -> None:
    """Its processes stopped, so no connection is refused and no request answered; then a whole new container."""
    with controller.client() as client:
        volume = client.create("pvc-daemon")
        pod = Pod(node, volume, place, "pod")
        pod.start()
        (pod.target / "file").write_text("kept")
        daemon.stop()  # its clients end with it
        deadline = time.monotonic() + 10
        while own_clients(node):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        daemon.start()
        while not alive(pod.target):  # replaced by the watch, unasked
            assert time.monotonic() < deadline + 40, node.log.read_text()
            time.sleep(0.1)
        assert (pod.target / "file").read_text() == "kept"
        while '"kind": "RestartPod"' not in node.log.read_text():
            assert time.monotonic() < deadline + 40, node.log.read_text()
            time.sleep(0.05)
        pod.end()
        client.delete(volume.volume_id)


def alive(path: Path) -> bool:
    try:
        os.statvfs(path)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("node", ["direct"], indirect=True)
def test_a_volume_of_hosts_that_are_gone_is_rescued_by_the_present_servers(
    controller: Driver, node: Driver, place: Path
) -> None:
    lab = controller.lab
    with controller.client() as client:
        volume = client.create("pvc-replaced")
        old = pb.Volume(volume_id=volume.volume_id, volume_context=dict(volume.volume_context))
        old.volume_context["servers"] = f"{lab.gateway},192.0.2.1"  # no Gluster hosts any more
        pod = Pod(node, old, place, "pod")
        cache = node.directory / "servers.json"
        present = [host.address for host in lab.hosts]
        cache.write_text(json.dumps({"clusters": {"c": present}, "volumes": {volume.volume_id: "c"}}))
        pod.start()
        (pod.target / "file").write_text("reached")
        pod.end()
        # One of the present ones is off: the next one answers.
        lab.kill(lab.hosts[0])
        cache.write_text(json.dumps({"clusters": {"c": present[:2]}, "volumes": {volume.volume_id: "c"}}))
        pod.start()
        assert (pod.target / "file").read_text() == "reached"
        pod.end()
        lab.restore()
        patiently(lambda: client.delete(volume.volume_id))

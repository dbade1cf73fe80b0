"""Hosts that go away, links that are cut, identities that were changed: nothing is lost, nothing is left."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.driver import GIB, LATER, Driver, patiently

pytestmark = pytest.mark.lab
PATIENCE = 80.0  # seconds for something that happens when a host is back


@pytest.fixture(autouse=True)
def _alone(driver: Driver, drivers: list[Driver]) -> Iterator[None]:
    """None that has met dead hosts goes on to the next test: it would wait before it tries them again."""
    yield
    driver.remove()
    drivers.clear()


def eventually(what: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def test_a_host_switched_off_during_create(driver: Driver) -> None:
    lab = driver.lab
    lab.kill(lab.hosts[2])
    with driver.client() as client:
        with pytest.raises(grpc.RpcError) as meanwhile:
            client.create("pvc-off", GIB)
        assert meanwhile.value.code() in LATER, meanwhile.value
        lab.start(lab.hosts[2])
        eventually("nothing is left of the creation", lambda: lab.leftovers() == [])
        volume = patiently(lambda: client.create("pvc-off", GIB))
        client.delete(volume.volume_id)


@pytest.mark.timeout(400)
def test_a_host_switched_off_in_the_middle_of_a_create(driver: Driver) -> None:
    # A glusterd that was just asking the host that vanished waits for it for two minutes and keeps its lock, also
    # when the host is back: nobody can hurry it.
    lab = driver.lab
    with driver.client() as client:
        outcome: list[object] = []

        def create() -> None:
            try:
                outcome.append(client.create("pvc-middle", GIB))
            except grpc.RpcError as error:
                outcome.append(error.code())

        creating = threading.Thread(target=create)
        creating.start()
        time.sleep(0.06)
        lab.kill(lab.hosts[1])
        creating.join(90)
        assert outcome
        assert not isinstance(outcome[0], grpc.StatusCode) or outcome[0] in (
            *LATER,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
        lab.start(lab.hosts[1])

        volume = patiently(lambda: client.create("pvc-middle", GIB, timeout=200), 240)
        client.delete(volume.volume_id)


def test_a_host_switched_off_during_delete(driver: Driver) -> None:
    lab = driver.lab
    with driver.client() as client:
        volume = client.create("pvc-off-delete", GIB)
        lab.kill(lab.hosts[0])
        with pytest.raises(grpc.RpcError) as meanwhile:
            client.delete(volume.volume_id)
        assert meanwhile.value.code() in LATER, meanwhile.value
        with pytest.raises(grpc.RpcError) as again:
            client.create("pvc-off-delete", GIB)
        assert again.value.code() is grpc.StatusCode.ABORTED
        lab.start(lab.hosts[0])
        eventually("the deletion finishes by itself", lambda: lab.leftovers() == [])
        patiently(lambda: client.delete(volume.volume_id))  # the records go after the last brick


def test_an_identity_changed_by_hand_stops_the_deletion(driver: Driver, tmp_path: Path) -> None:
    lab = driver.lab
    with driver.client() as client:
        volume = client.create("pvc-identity", GIB)
        staging, target = tmp_path / "staging", tmp_path / "target"
        client.stage(volume, staging)
        client.publish(volume, staging, target)
        (target / "file").write_text("precious")

        path = lab.run(lab.hosts[1], ["sh", "-c", "echo /var/lib/gluster-csi/bricks/*/*/brick.json"]).stdout.strip()
        original = lab.run(lab.hosts[1], ["cat", path]).stdout
        identity = json.loads(original)
        identity["volume_name"] = "pvc-of-somebody-else"
        lab.run(lab.hosts[1], ["tee", path], input=json.dumps(identity))
        with pytest.raises(grpc.RpcError) as refused:
            client.delete(volume.volume_id)
        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert "pvc-of-somebody-else" in (refused.value.details() or "")
        assert (target / "file").read_text() == "precious"
        (target / "more").write_text("and it still works")
        assert client.create("pvc-identity", GIB).volume_id == volume.volume_id

        lab.run(lab.hosts[1], ["tee", path], input=original)
        client.unpublish(volume, target)
        client.unstage(volume, staging)
        client.delete(volume.volume_id)


def test_a_device_that_is_not_mounted_is_not_taken_for_an_empty_one(driver: Driver) -> None:
    lab = driver.lab
    with driver.client() as client:
        volume = client.create("pvc-unmounted", GIB)
        name = volume.volume_context["glusterVolume"]
        host = lab.hosts[0]
        script = (
            "pkill -f volfile-id.$0 ; sleep 0.3; for m in /var/lib/gluster-csi/bricks/*/*; do umount $m; done; "
            "umount /srv/d0; umount /srv/d1"
        )
        lab.run(host, ["sh", "-c", script, f"{name}."], check=False)
        with pytest.raises(grpc.RpcError) as refused:
            client.delete(volume.volume_id)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "/srv/d" in (refused.value.details() or "")
        lab.run(host, ["mount", "-a"])
        eventually("the deletion finishes by itself", lambda: lab.leftovers() == [])


def longest_stall(path: Path, seconds: float) -> tuple[float, int]:
    """Write and fsync for so long; the longest time one write took, and how many there were."""
    longest, writes = 0.0, 0
    end = time.monotonic() + seconds
    with path.open("w") as file:
        while time.monotonic() < end:
            began = time.monotonic()
            file.write(f"{writes}\n")
            file.flush()
            os.fsync(file.fileno())
            longest = max(longest, time.monotonic() - began)
            writes += 1
            time.sleep(0.005)  # others test beside it, and more writes show no more
    return longest, writes


@pytest.mark.timeout(180)
def test_a_cut_link_stalls_a_writer_for_seconds_only(
    driver: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = driver.lab
    with driver.client() as client:
        volume = client.create("pvc-cut", GIB)
        staging, target = tmp_path / "staging", tmp_path / "target"
        client.stage(volume, staging)
        client.publish(volume, staging, target)
        result: list[tuple[float, int]] = []
        writer = threading.Thread(target=lambda: result.append(longest_stall(target / "log", 30)))
        writer.start()
        time.sleep(2)
        lab.cut(lab.hosts[1])
        writer.join(150)
        lab.mend(lab.hosts[1])
        stall, writes = result[0]  # an error of the writer would have left it empty
        with capsys.disabled():  # the figure is to be seen when it is good, too
            print(f"\nlink cut: {writes} fsynced writes, longest stall {stall:.1f} s (limit 20 s)")
        assert stall <= 20
        assert (target / "log").read_text() == "".join(f"{i}\n" for i in range(writes))
        client.unpublish(volume, target)
        client.unstage(volume, staging)
        patiently(lambda: client.delete(volume.volume_id))

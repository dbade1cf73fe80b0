"""The main job on real hosts: a volume from a request to a written mount and back to nothing."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, capability
from tests.lab import Lab

pytestmark = pytest.mark.lab


def gluster_volumes(lab: Lab) -> list[str]:
    return lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "list"], check=False).stdout.split()


@pytest.mark.parametrize(
    ("volume_type", "kind", "bricks"),
    [
        ("replicate:3", "Replicate", 3),
        ("replicate:2", "Replicate", 2),
        ("none", "Distribute", 1),
        ("disperse:2:1", "Disperse", 3),
    ],
)
def test_a_volume_of_each_durability(client: Client, driver: Driver, volume_type: str, kind: str, bricks: int) -> None:
    volume = client.create(f"pvc-{kind}-{bricks}", GIB, {"volumeType": volume_type})
    name = volume.volume_context["glusterVolume"]
    info = driver.lab.run(driver.lab.hosts[0], ["gluster", "--mode=script", "volume", "info", name]).stdout
    assert f"Type: {kind}" in info
    assert "Status: Started" in info
    assert info.count("/brick\n") == bricks
    client.delete(volume.volume_id)


def test_an_arbiter_volume_and_its_options(client: Client, driver: Driver) -> None:
    parameters = {"volumeType": "replicate:3", "arbiter": "true", "volumeOptions": "performance.io-cache off"}
    volume = client.create("pvc-arbiter", GIB, parameters)
    name = volume.volume_context["glusterVolume"]
    info = driver.lab.run(driver.lab.hosts[0], ["gluster", "--mode=script", "volume", "info", name]).stdout
    assert "(2 + 1) = 3" in info
    assert "performance.io-cache: off" in info
    client.delete(volume.volume_id)


def test_the_brick_has_the_group_the_mode_and_its_identity(client: Client, driver: Driver) -> None:
    volume = client.create("pvc-brick", GIB, {"gidMin": "5000", "gidMax": "5009"})
    assert volume.volume_context["gid"] == "5000"
    for host in driver.lab.hosts:
        brick = driver.lab.run(host, ["sh", "-c", "echo /var/lib/gluster-csi/bricks/*/*/brick"]).stdout.strip()
        assert driver.lab.run(host, ["stat", "-c", "%g %a", brick]).stdout.split() == ["5000", "2770"]
        identity = json.loads(driver.lab.run(host, ["cat", str(Path(brick).parent / "brick.json")]).stdout)
        assert identity["volume_name"] == "pvc-brick"
        assert identity["gid"] == 5000
        assert "nofail" in driver.lab.run(host, ["grep", brick.removesuffix("/brick"), "/etc/fstab"]).stdout
    client.delete(volume.volume_id)


def test_bricks_come_back_after_a_reboot(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-reboot", GIB)
    staging, target = tmp_path / "staging", tmp_path / "target"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    (target / "file").write_text("kept")
    client.unpublish(volume, target)
    client.unstage(volume, staging)
    driver.lab.reboot(driver.lab.hosts[1])
    name = volume.volume_context["glusterVolume"]
    deadline = time.monotonic() + 20
    while True:
        got = client.controller.ControllerGetVolume(
            pb.ControllerGetVolumeRequest(volume_id=volume.volume_id), timeout=20
        )
        if not got.status.volume_condition.abnormal:
            break
        assert time.monotonic() < deadline, got.status.volume_condition.message
        time.sleep(0.2)
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    assert (target / "file").read_text() == "kept"
    client.unpublish(volume, target)
    client.unstage(volume, staging)
    client.delete(volume.volume_id)
    assert name not in gluster_volumes(driver.lab)


def test_read_only_and_flags(client: Client, tmp_path: Path) -> None:
    volume = client.create("pvc-flags", GIB)
    staging, target = tmp_path / "staging", tmp_path / "target"
    client.stage(volume, staging)
    client.publish(volume, staging, target, readonly=True)
    with pytest.raises(OSError, match="Read-only"):
        (target / "file").write_text("no")
    with pytest.raises(grpc.RpcError) as refused:
        client.publish(volume, staging, target)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    client.unpublish(volume, target)
    client.unstage(volume, staging)
    client.delete(volume.volume_id)


def test_a_dead_client_is_found_and_replaced(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-dead", GIB)
    staging, target = tmp_path / "staging", tmp_path / "target"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    (target / "file").write_text("kept")
    name = volume.volume_context["glusterVolume"]
    pids = subprocess.run(["pgrep", "-f", f"volfile-id=/{name} "], capture_output=True, text=True, check=True).stdout
    for pid in pids.split():
        with contextlib.suppress(ProcessLookupError):  # a second process of the client ends with the first
            os.kill(int(pid), 9)
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.stat(target)
    stats = pb.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path=str(target))
    condition = client.node.NodeGetVolumeStats(stats, timeout=20).volume_condition
    assert condition.abnormal
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    assert (target / "file").read_text() == "kept"
    assert not client.node.NodeGetVolumeStats(stats, timeout=20).volume_condition.abnormal
    client.unpublish(volume, target)
    client.unstage(volume, staging)
    client.delete(volume.volume_id)


def test_two_creates_of_one_name_at_once(client: Client, driver: Driver) -> None:
    request = pb.CreateVolumeRequest(
        name="pvc-twice", capacity_range=pb.CapacityRange(required_bytes=GIB), volume_capabilities=[capability()]
    )
    calls = [client.controller.CreateVolume.future(request, timeout=60) for _ in range(2)]
    ids = {call.result().volume.volume_id for call in calls}
    assert len(ids) == 1
    assert len(gluster_volumes(driver.lab)) == 1
    client.delete(ids.pop())


def test_a_create_that_outlives_its_deadline_is_joined(client: Client, driver: Driver) -> None:
    with pytest.raises(grpc.RpcError) as late:
        client.create("pvc-late", GIB, timeout=0.1)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    volume = client.create("pvc-late", GIB)
    assert gluster_volumes(driver.lab) == [volume.volume_context["glusterVolume"]]
    assert "joined" in driver.log.read_text()
    client.delete(volume.volume_id)


def test_without_any_state_the_volume_is_found_by_its_name(driver: Driver, tmp_path: Path) -> None:
    with driver.client() as client:
        before = client.create("pvc-lost", GIB, {"gidMin": "7000"})
    driver.stop()
    for file in driver.directory.glob("state.db*"):
        file.unlink()
    driver.start()
    with driver.client() as client:
        after = client.create("pvc-lost", GIB, {"gidMin": "7000"})
        assert after == before
        assert len(gluster_volumes(driver.lab)) == 1
        client.delete(after.volume_id)


def test_without_any_state_a_delete_finds_it_too(driver: Driver) -> None:
    with driver.client() as client:
        volume = client.create("pvc-lost-delete", GIB, {"volumeNamePrefix": "team"})
        assert volume.volume_context["glusterVolume"].startswith("team_")
    driver.stop()
    for file in driver.directory.glob("state.db*"):
        file.unlink()
    driver.start()
    with driver.client() as client:
        client.delete(volume.volume_id)
    assert gluster_volumes(driver.lab) == []


def test_a_graceful_stop_finishes_what_runs(driver: Driver) -> None:
    with driver.client() as client:
        request = pb.CreateVolumeRequest(
            name="pvc-stop", capacity_range=pb.CapacityRange(required_bytes=GIB), volume_capabilities=[capability()]
        )
        call = client.controller.CreateVolume.future(request, timeout=60)
        time.sleep(0.05)
        stopper = threading.Thread(target=driver.stop)
        stopper.start()
        volume = call.result().volume
        stopper.join()
    driver.start(topology=False)
    with driver.client() as client:
        assert client.create("pvc-stop", GIB).volume_id == volume.volume_id
        client.delete(volume.volume_id)


def test_the_topology_can_be_loaded_again(driver: Driver) -> None:
    said = driver.topology_command()
    assert "Found node" in said
    assert "Found device" in said
    assert "Creating" not in said


def test_the_socket_is_for_its_owner_only(driver: Driver) -> None:
    assert stat.S_IMODE(driver.socket.stat().st_mode) & 0o077 == 0


def test_a_second_process_on_the_same_state_is_refused(driver: Driver, tmp_path: Path) -> None:
    other = Driver(driver.lab, tmp_path / "other", settings={"state": {"path": str(driver.state)}})
    with pytest.raises(RuntimeError, match="process"):
        other.start()
    other.remove()

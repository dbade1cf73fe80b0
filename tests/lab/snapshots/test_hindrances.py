"""What keeps a volume on real hosts from being copied now: bricks that are down, files to be healed or moved."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, patiently
from tests.lab.copies import copy, mounted, take
from tests.lab.system import wait_for

pytestmark = pytest.mark.lab


def test_not_while_a_brick_is_down(client: Client, driver: Driver) -> None:
    volume = client.create("pvc-down", GIB)
    name = volume.volume_context["glusterVolume"]
    process = f"volfile-id {name}[.]"
    driver.lab.run(driver.lab.hosts[1], ["pkill", "-f", process])
    wait_for(
        "the end of the brick",
        lambda: not driver.lab.run(driver.lab.hosts[1], ["pgrep", "-f", process], check=False).stdout,
        10,
    )
    for ask in (lambda: take(client, "s", volume, patience=0), lambda: copy(client, "c", volume, patience=0)):
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "bricks are down" in str(refused.value.details())
    client.delete(volume.volume_id)


def test_not_while_files_wait_to_be_healed(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-heal", GIB, {"volumeOptions": "cluster.self-heal-daemon off"})
    name, lab = volume.volume_context["glusterVolume"], driver.lab
    with mounted(client, volume, tmp_path) as root:
        (root / "file").write_text("before")
        lab.run(lab.hosts[1], ["pkill", "-f", f"volfile-id {name}[.]"])
        time.sleep(1)
        (root / "file").write_text("after")
        subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)
    lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "start", name, "force"])
    deadline = time.monotonic() + 20
    while True:
        with pytest.raises(grpc.RpcError) as refused:
            take(client, "s", volume, patience=0)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        if "bricks are down" not in str(refused.value.details()) or time.monotonic() > deadline:
            break
    assert "wait to be healed" in str(refused.value.details())
    client.delete(volume.volume_id)


def test_not_while_files_are_moved(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-moved", GIB, {"volumeType": "none", "expansion": "addSets"})
    capacity = client.controller.GetCapacity(pb.GetCapacityRequest(parameters={"volumeType": "none"}))
    with mounted(client, volume, tmp_path) as root:
        for number in range(1500):
            (root / f"file{number}").write_bytes(b"x" * 3000)
    wanted = pb.CapacityRange(required_bytes=capacity.maximum_volume_size.value // 2)
    grow = pb.ControllerExpandVolumeRequest(volume_id=volume.volume_id, capacity_range=wanted)
    volume.capacity_bytes = patiently(lambda: client.controller.ControllerExpandVolume(grow, timeout=60)).capacity_bytes
    rebalance = ["gluster", "--mode=script", "volume", "rebalance", volume.volume_context["glusterVolume"]]
    refusals = []
    for ask in (
        lambda: take(client, "s", volume, patience=0),
        lambda: copy(client, "c", volume, {"volumeType": "none"}, patience=0),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        refusals.append((refused.value.code(), refused.value.details()))
    assert "in progress" in driver.lab.run(driver.lab.hosts[0], [*rebalance, "status"], check=False).stdout
    print(f"\n{refusals}")
    for code, details in refusals:
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "Rebalance" in (details or "")
    patiently(lambda: client.delete(volume.volume_id))

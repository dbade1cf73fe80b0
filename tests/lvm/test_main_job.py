"""The main job on real LVM: a volume from a request to a written mount and back to nothing."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, patiently
from tests.lab.system import SLOWNESS

pytestmark = pytest.mark.lab

BRICKS = "/var/lib/heketi/mounts"


def capacity(path: Path) -> int:
    shown = subprocess.run(["df", "-B1", "--output=size", str(path)], capture_output=True, text=True, check=True)
    return int(shown.stdout.split()[-1])


def test_a_volume_from_birth_to_death(client: Client, driver: Driver, tmp_path: Path) -> None:
    began = time.monotonic()
    volume = client.create("pvc-lvm", GIB)
    print(f"created in {time.monotonic() - began:.1f} s")
    staging, target = tmp_path / "staging", tmp_path / "target"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    (target / "file").write_text("written")
    assert (target / "file").read_text() == "written"
    assert capacity(target) >= GIB
    for host in driver.lab.hosts:
        brick = driver.lab.run(host, ["sh", "-c", f"echo {BRICKS}/vg_*/brick_*/brick"]).stdout.strip()
        assert driver.lab.run(host, ["stat", "-c", "%g %a", brick]).stdout.split() == [
            volume.volume_context["gid"],
            "2770",
        ]
        assert driver.lab.run(host, ["cat", f"{brick}/file"]).stdout == "written"
        assert (
            json.loads(driver.lab.run(host, ["cat", f"{Path(brick).parent}/brick.json"]).stdout)["volume_name"]
            == "pvc-lvm"
        )
    began = time.monotonic()
    client.controller.ControllerExpandVolume(
        pb.ControllerExpandVolumeRequest(
            volume_id=volume.volume_id, capacity_range=pb.CapacityRange(required_bytes=2 * GIB)
        ),
        timeout=60 * SLOWNESS,
    )
    print(f"expanded in {time.monotonic() - began:.1f} s")
    assert capacity(target) >= 2 * GIB
    assert (target / "file").read_text() == "written"
    client.unpublish(volume, target)
    client.unstage(volume, staging)
    began = time.monotonic()
    client.delete(volume.volume_id)
    print(f"deleted in {time.monotonic() - began:.1f} s")


def test_bricks_come_back_after_a_reboot(client: Client, driver: Driver) -> None:
    volume = client.create("pvc-reboot", GIB)
    driver.lab.reboot(driver.lab.hosts[1])
    driver.lab.settle()

    def whole() -> None:
        got = client.controller.ControllerGetVolume(
            pb.ControllerGetVolumeRequest(volume_id=volume.volume_id), timeout=20 * SLOWNESS
        )
        assert not got.status.volume_condition.abnormal, got.status.volume_condition.message

    deadline = time.monotonic() + 40 * SLOWNESS
    while True:
        try:
            whole()
            break
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    patiently(lambda: client.delete(volume.volume_id))

"""Thin pools that fill up, on real LVM: told of, refused, extended, counted; and disks that are given back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import Client, Driver, patiently
from tests.lab import Lab, LabHost
from tests.lab.system import SLOWNESS

pytestmark = pytest.mark.lab

SIZE = 400 << 20
BRICKS = "/var/lib/heketi/mounts/vg_*/brick_*"
WATCH = {"pool_interval": 1.0, "pool_limit": 50.0}


def until(look: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds * SLOWNESS
    while not look():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.5)


@pytest.fixture
def watching(clean_lab: Lab, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(clean_lab, tmp_path / "driver", settings={"gids": {"rest_seconds": 0}, "bricks": WATCH})
    try:
        driver.start()
        yield driver
    finally:
        driver.remove()


def pool(lab: Lab, host: LabHost) -> tuple[str, int, int, float]:
    """Name, data and metadata in bytes, percent of the fullest thin pool of the host."""
    fields = "vg_name,lv_name,lv_size,lv_metadata_size,data_percent"
    words = ["lvs", "--noheadings", "--units", "b", "--nosuffix", "--separator", "/", "-o", fields, "-S", "lv_attr=~^t"]
    rows = [line.strip().split("/") for line in lab.run(host, words).stdout.splitlines()]
    group, name, data, metadata, percent = max(rows, key=lambda row: float(row[-1]))
    return f"{group}/{name}", int(data), int(metadata), float(percent)


def refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        patiently(call)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error.value
    assert words in (error.value.details() or "")


def snapshot(client: Client, volume: str) -> pb.CreateSnapshotResponse:
    request = pb.CreateSnapshotRequest(name="snap", source_volume_id=volume)
    return client.controller.CreateSnapshot(request, timeout=120)


def test_a_pool_that_fills_up_is_told_of_refuses_and_is_extended(watching: Driver) -> None:
    lab = watching.lab
    first = lab.hosts[0]
    with watching.client() as client:
        volume = client.create("pvc-full", SIZE)
        for host in lab.hosts:
            lab.run(host, ["sh", "-c", f"dd if=/dev/zero of=$(echo {BRICKS})/fill bs=1M count=260"])
            lab.run(host, ["sync"])
        until(lambda: "it can hold all that is in it" in watching.log.read_text())
        assert pool(lab, first)[3] > 50
        # That is no reason to refuse anything; a snapshot that somebody made by hand is.
        patiently(lambda: client.create("pvc-other", SIZE))
        brick = lab.run(first, ["lvs", "--noheadings", "-o", "lv_full_name", "-S", "lv_name=~^brick_"]).stdout.split()
        for number, path in enumerate(brick):
            lab.run(first, ["lvcreate", "-qq", "-s", path, "-n", f"by_hand_{number}"])
        until(lambda: "less than is promised in it" in watching.log.read_text())
        refused(lambda: client.create("pvc-third", SIZE), "thin pool vg_")
        refused(lambda: snapshot(client, volume.volume_id), "no snapshot of 'pvc-full' now")
        grown = pb.ControllerExpandVolumeRequest(
            volume_id=volume.volume_id, capacity_range=pb.CapacityRange(required_bytes=2 * SIZE)
        )
        expand = partial(client.controller.ControllerExpandVolume, grown, timeout=120)
        refused(expand, "no expansion of volume 'pvc-full' now")
    before = {host.address: pool(lab, host) for host in lab.hosts}
    watching.stop()
    watching.settings["bricks"] = {**WATCH, "pool_autoextend_threshold": 50.0, "pool_autoextend_percent": 50.0}
    watching.start(topology=False)
    until(lambda: pool(lab, first)[1] > before[first.address][1], 60)
    until(lambda: pool(lab, first)[3] < 50, 60)
    print(f"{before[first.address]} is now {pool(lab, first)}; {[pool(lab, host) for host in lab.hosts[1:]]}")
    # Those that can hold all that is in them are as they were.
    for host in lab.hosts[1:]:
        assert pool(lab, host)[:3] == before[host.address][:3]
    with watching.client() as client:
        patiently(lambda: client.create("pvc-third", SIZE), 60 * SLOWNESS)
        for number, path in enumerate(brick):
            lab.run(first, ["lvremove", "-qq", "-f", f"{Path(path).parent}/by_hand_{number}"])
        for one in client.controller.ListVolumes(pb.ListVolumesRequest(), timeout=60).entries:
            client.delete(one.volume.volume_id)
    for host in lab.hosts:
        assert not lab.run(host, ["lvs", "--noheadings"]).stdout.strip()

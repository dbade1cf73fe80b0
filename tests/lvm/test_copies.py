"""Snapshots, restores and clones on real LVM: compared file by file, and nothing of them left."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, capability, patiently
from tests.lab.system import SLOWNESS

pytestmark = pytest.mark.lab

SECONDS = 60 * SLOWNESS


def _left(driver: Driver) -> list[str]:
    found = []
    for host in driver.lab.hosts:
        script = "lvs --noheadings -o lv_name; ls -d /var/lib/heketi/mounts/vg_*/*; grep brick_ /etc/fstab; true"
        found += driver.lab.run(host, ["sh", "-c", script]).stdout.split()
    return found


def _sums(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir() if p.is_file()}


def _at(client: Client, volume: pb.Volume, tmp_path: Path, work: Callable[[Path], object]) -> None:
    staging, target = tmp_path / f"s-{volume.volume_id}", tmp_path / f"t-{volume.volume_id}"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    try:
        work(target)
    finally:
        client.unpublish(volume, target)
        client.unstage(volume, staging)


def _snapshot(client: Client, name: str, volume: pb.Volume) -> pb.Snapshot:
    request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume.volume_id)
    began = time.monotonic()
    made = patiently(lambda: client.controller.CreateSnapshot(request, timeout=SECONDS)).snapshot
    print(f"snapshot in {time.monotonic() - began:.1f} s")
    assert made.ready_to_use
    return made


def _delete_snapshot(client: Client, snapshot_id: str) -> None:
    request = pb.DeleteSnapshotRequest(snapshot_id=snapshot_id)
    patiently(lambda: client.controller.DeleteSnapshot(request, timeout=SECONDS))


def _copy(client: Client, name: str, source: pb.VolumeContentSource, size: int = GIB) -> pb.Volume:
    request = pb.CreateVolumeRequest(
        name=name,
        capacity_range=pb.CapacityRange(required_bytes=size),
        volume_capabilities=[capability()],
        parameters={"volumeType": "replicate:3"},
        volume_content_source=source,
    )
    began = time.monotonic()
    made = patiently(lambda: client.controller.CreateVolume(request, timeout=SECONDS)).volume
    print(f"copied in {time.monotonic() - began:.1f} s")
    return made


def _of_snapshot(snapshot: pb.Snapshot) -> pb.VolumeContentSource:
    source = pb.VolumeContentSource.SnapshotSource(snapshot_id=snapshot.snapshot_id)
    return pb.VolumeContentSource(snapshot=source)


def _of_volume(volume: pb.Volume) -> pb.VolumeContentSource:
    return pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=volume.volume_id))


@pytest.mark.parametrize("order", ["source first", "snapshot first"])
def test_copies_show_what_was_there_and_need_nothing(
    client: Client, driver: Driver, tmp_path: Path, order: str
) -> None:
    before = _left(driver)
    source = client.create("pvc-source", GIB, parameters={"volumeType": "replicate:3"})
    seen: dict[str, str] = {}

    def write(target: Path) -> None:
        for number in range(8):
            (target / f"file-{number}").write_bytes(f"{number}".encode() * 700_001)
        seen.update(_sums(target))
        taken.append(_snapshot(client, "snapshot-lvm", source))
        (target / "file-0").write_bytes(b"written later")
        (target / "file-1").unlink()

    taken: list[pb.Snapshot] = []
    _at(client, source, tmp_path, write)
    clone = _copy(client, "pvc-clone", _of_volume(source))
    restored = _copy(client, "pvc-restored", _of_snapshot(taken[0]), 2 * GIB)
    _at(client, restored, tmp_path, lambda target: _compare(target, seen))
    _at(client, clone, tmp_path, lambda target: _compare(target, _later(seen)))
    if order == "source first":
        client.delete(source.volume_id)
        _at(client, restored, tmp_path, lambda target: _compare(target, seen))
        _delete_snapshot(client, taken[0].snapshot_id)
        client.delete(restored.volume_id)
        _at(client, clone, tmp_path, lambda target: _compare(target, _later(seen)))
        client.delete(clone.volume_id)
    else:
        _delete_snapshot(client, taken[0].snapshot_id)
        client.delete(clone.volume_id)
        client.delete(restored.volume_id)
        _at(client, source, tmp_path, lambda target: _compare(target, _later(seen)))
        client.delete(source.volume_id)
    assert _left(driver) == before


def _later(seen: dict[str, str]) -> dict[str, str]:
    later = {name: found for name, found in seen.items() if name != "file-1"}
    return later | {"file-0": hashlib.sha256(b"written later").hexdigest()}


def _compare(target: Path, seen: dict[str, str]) -> None:
    assert _sums(target) == seen

"""Snapshots, groups and copies of volumes as sidecars ask for them, and the files that tell copies apart."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from tests.driver import Client, capability, patiently
from tests.lab.system import SLOWNESS

PATIENCE = 80.0 * SLOWNESS
TYPES = {
    "replicate": {"volumeType": "replicate:3"},
    "arbiter": {"volumeType": "replicate:3", "arbiter": "true"},
    "disperse": {"volumeType": "disperse:2:1"},
    "none": {"volumeType": "none"},
    "sharded": {"volumeType": "replicate:3", "volumeOptions": "features.shard on,features.shard-block-size 4MB"},
}


def take(client: Client, name: str, volume: pb.Volume, *, patience: float = PATIENCE) -> pb.Snapshot:
    """``patience``, in seconds, here and below: for how long a "not now" is asked again, as sidecars ask."""
    request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume.volume_id)
    return patiently(lambda: client.controller.CreateSnapshot(request, timeout=60), patience).snapshot


def drop(client: Client, snapshot: pb.Snapshot) -> None:
    request = pb.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id)
    patiently(lambda: client.controller.DeleteSnapshot(request, timeout=60))


def take_group(client: Client, name: str, volumes: Sequence[pb.Volume]) -> pb.VolumeGroupSnapshot:
    request = pb.CreateVolumeGroupSnapshotRequest(name=name, source_volume_ids=[v.volume_id for v in volumes])
    groups = rpc.GroupControllerStub(client.channel)
    return patiently(lambda: groups.CreateVolumeGroupSnapshot(request, timeout=60)).group_snapshot


def drop_group(client: Client, group: pb.VolumeGroupSnapshot) -> None:
    request = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=group.group_snapshot_id)
    groups = rpc.GroupControllerStub(client.channel)
    patiently(lambda: groups.DeleteVolumeGroupSnapshot(request, timeout=60))


def copy(
    client: Client,
    name: str,
    of: pb.Snapshot | pb.Volume,
    parameters: dict[str, str] | None = None,
    size: int = 0,
    *,
    patience: float = PATIENCE,
) -> pb.Volume:
    """A volume that begins as a copy."""
    if isinstance(of, pb.Volume):
        source = pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=of.volume_id))
        least = of.capacity_bytes
    else:
        source = pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=of.snapshot_id))
        least = of.size_bytes
    request = pb.CreateVolumeRequest(
        name=name,
        capacity_range=pb.CapacityRange(required_bytes=size or least),
        volume_capabilities=[capability()],
        parameters=parameters or {},
        volume_content_source=source,
    )
    volume = patiently(lambda: client.controller.CreateVolume(request, timeout=60), patience).volume
    assert volume.content_source == source
    return volume


@contextmanager
def mounted(client: Client, volume: pb.Volume, at: Path) -> Iterator[Path]:
    staging, target = at / f"s-{volume.volume_id[:8]}", at / f"t-{volume.volume_id[:8]}"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    try:
        yield target
    finally:
        client.unpublish(volume, target)
        client.unstage(volume, staging)


def fill(root: Path) -> None:
    """Files small and large, renamed ones (on several sets their names lead to another set than their data), links."""
    for number in range(40):
        (root / f"old-{number}").write_bytes(os.urandom(5000))
        (root / f"old-{number}").rename(root / f"new-{number}")
    (root / "large").write_bytes(os.urandom(21 << 20))
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    os.link(deep / "file", root / "hard")
    (root / "soft").symlink_to("a/b/file")
    os.setxattr(root / "large", "user.colour", b"blue")
    subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)


Contents = dict[str, tuple[str, int, object]]  # of each path: its mode, its group, and what it is


def contents(root: Path) -> Contents:
    found: Contents = {}
    for path in sorted(root.rglob("*")):
        told = path.lstat()
        if path.is_symlink():
            what: object = os.readlink(path)
        elif path.is_file():
            what = (hashlib.sha256(path.read_bytes()).hexdigest(), told.st_nlink, sorted(os.listxattr(path)))
        else:
            what = "directory"
        found[str(path.relative_to(root))] = (oct(told.st_mode), told.st_gid, what)
    return found

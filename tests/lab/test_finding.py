"""Snapshots on real hosts, when all that the driver knew is gone."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Driver
from tests.lab.copies import TYPES, contents, copy, drop, drop_group, fill, mounted, take, take_group

pytestmark = pytest.mark.lab


def test_all_is_found_again_and_serves_as_before(driver: Driver, tmp_path: Path) -> None:
    with driver.client() as client:
        volume = client.create("pvc", GIB, TYPES["disperse"])
        other = client.create("other", GIB, TYPES["none"])
        with mounted(client, volume, tmp_path) as root:
            fill(root)
            before = contents(root)
            snapshot = take(client, "snapshot-1", volume)
            (root / "new-1").unlink()
            subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)
        group = take_group(client, "g", [volume, other])
    driver.stop(signal.SIGKILL)
    for left in driver.directory.glob("state.db*"):
        left.unlink()
    driver.start()
    with driver.client() as client:
        listed = client.controller.ListSnapshots(pb.ListSnapshotsRequest(), timeout=20).entries
        found = {entry.snapshot.snapshot_id: entry.snapshot for entry in listed}
        assert set(found) == {snapshot.snapshot_id, *(s.snapshot_id for s in group.snapshots)}
        again = found[snapshot.snapshot_id]
        assert again.ready_to_use
        assert (again.source_volume_id, again.size_bytes) == (snapshot.source_volume_id, snapshot.size_bytes)
        assert abs(again.creation_time.seconds - snapshot.creation_time.seconds) <= 2
        client.delete(volume.volume_id)
        restored = copy(client, "restored", again, TYPES["disperse"])
        with mounted(client, restored, tmp_path) as root:
            assert contents(root) == before
        drop(client, again)
        drop_group(client, group)
        for one in (restored, other):
            client.delete(one.volume_id)
        with pytest.raises(grpc.RpcError):
            copy(client, "more", again, TYPES["disperse"])

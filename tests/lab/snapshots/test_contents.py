"""Snapshots, restores and clones on real hosts: what is in them."""

from __future__ import annotations

import functools
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver
from tests.lab import Lab
from tests.lab.copies import TYPES, contents, copy, drop, fill, mounted, take
from tests.lab.sessions import session_instance
from tests.lab.system import wait_for

pytestmark = pytest.mark.lab


def healed(lab: Lab, volume: pb.Volume) -> bool:
    name = volume.volume_context["glusterVolume"]
    said = lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "heal", name, "info", "summary"], check=False)
    counts = [line.split(":")[1].strip() for line in said.stdout.splitlines() if line.startswith("Total Number")]
    return all(count in ("0", "") for count in counts)


# Two sets have all that one has.
@pytest.mark.parametrize(("sets", "kind"), [(1, "replicate"), *((2, kind) for kind in TYPES)])
def test_what_was_there_is_there_again(client: Client, driver: Driver, tmp_path: Path, kind: str, sets: int) -> None:
    size = GIB if sets == 1 else (2 * GIB if kind != "disperse" else 4 * GIB)
    _is_there_again(client, driver.lab, tmp_path, TYPES[kind], size)


def test_what_was_there_is_there_again_in_four_parts_and_two_more(settings: dict[str, Any], tmp_path: Path) -> None:
    """Two sets of six bricks, a host for each of a set."""
    lab = Lab(f"{session_instance()[:7]}w", hosts=6, devices=1)
    try:
        lab.up(pool=True)
        driver = Driver(lab, tmp_path / "driver", settings=settings)
        driver.start()
        try:
            with driver.client() as client:
                _is_there_again(client, lab, tmp_path, {"volumeType": "disperse:4:2"}, 8 * GIB)
        finally:
            driver.remove()
        assert not lab.leftovers()
    finally:
        lab.down()


def _is_there_again(client: Client, lab: Lab, tmp_path: Path, parameters: dict[str, str], size: int) -> None:
    volume = client.create("pvc-source", size, parameters)
    with mounted(client, volume, tmp_path) as root:
        fill(root)
        before = contents(root)
        snapshot = take(client, "snapshot-1", volume)
        assert abs(snapshot.creation_time.seconds - time.time()) < 10
        (root / "new-1").write_text("changed")
        (root / "new-2").unlink()
        (root / "new-3").rename(root / "later")
        (root / "large").write_bytes(b"gone")
        after = contents(root)
        clone = copy(client, "clone-1", volume, parameters)
        (root / "new-4").unlink()
    client.delete(volume.volume_id)
    restored = copy(client, "restored-1", snapshot, parameters)
    drop(client, snapshot)
    for made, expected in ((restored, before), (clone, after)):
        with mounted(client, made, tmp_path) as root:
            assert contents(root) == expected
            if parameters["volumeType"] != "none":
                # A write that was under way in the copied moment is finished by the daemons.
                wait_for("nothing to heal", functools.partial(healed, lab, made), 60)
            # It is a volume as any other: what is renamed and removed in it is so.
            for number in range(5, 40):
                (root / f"new-{number}").rename(root / f"again-{number}")
                (root / f"again-{number}").unlink()
            (root / "more").write_bytes(os.urandom(1 << 20))
            assert not [path.name for path in root.iterdir() if path.name.startswith("again")]
        client.delete(made.volume_id)


def test_a_restored_volume_can_be_larger(client: Client, tmp_path: Path) -> None:
    volume = client.create("pvc-small", GIB)
    with mounted(client, volume, tmp_path) as root:
        (root / "file").write_text("kept")
        subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)
    snapshot = take(client, "snapshot-1", volume)
    with pytest.raises(grpc.RpcError) as refused:
        copy(client, "smaller", snapshot, size=GIB // 2)
    assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
    sources: tuple[pb.Snapshot | pb.Volume, ...] = (snapshot, volume)
    for number, source in enumerate(sources):
        larger = copy(client, f"larger-{number}", source, size=2 * GIB)
        assert larger.capacity_bytes == 2 * GIB
        with mounted(client, larger, tmp_path) as root:
            told = os.statvfs(root)
            assert told.f_blocks * told.f_frsize >= 2 * GIB
            assert (root / "file").read_text() == "kept"
        client.delete(larger.volume_id)
    drop(client, snapshot)
    client.delete(volume.volume_id)

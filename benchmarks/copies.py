"""Snapshots and clones of a volume with data in it, on a real pool; a clone against an empty volume, in turns.

``DATA`` is how many GiB are written into the volume first (10 if it is not set); the pool takes three times that.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, capability
from tests.lab import Lab
from tests.lab.sessions import remove_abandoned, session_instance

ROUNDS = 12
HELD, WHOLE, CLONE = 0.4, 1.0, 1.5  # seconds, seconds, times an empty volume


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. ``held``: from barrier to barrier, as the driver logs it."""

    held: list[float]
    snapshot: list[float]
    clone: list[float]
    create: list[float]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _held(log: Path) -> list[float]:
    """Of every snapshot and clone, in their order."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"copied"' in line]
    return [line["seconds"] for line in lines if line["event"] == "copied"]


def _write(client: Client, volume: pb.Volume, work: Path, gib: int) -> None:
    staging, target = work / "staging", work / "target"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    try:
        for number in range(gib):
            subprocess.run(
                ["dd", "if=/dev/urandom", f"of={target}/{number}", "bs=1M", "count=1023", "conv=fsync", "status=none"],
                check=True,
            )
    finally:
        client.unpublish(volume, target)
        client.unstage(volume, staging)


def _rounds(client: Client, volume: pb.Volume) -> tuple[list[float], list[float], list[float]]:
    snapshots, clones, creates = list[float](), list[float](), list[float]()
    source = pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=volume.volume_id))
    for number in range(ROUNDS + 1):
        taken: list[str] = []
        made: list[pb.Volume] = []

        def take(name: str = f"s-{number}", ids: list[str] = taken) -> None:
            request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume.volume_id)
            ids.append(client.controller.CreateSnapshot(request, timeout=120).snapshot.snapshot_id)

        def clone(name: str = f"clone-{number}", ids: list[pb.Volume] = made) -> None:
            request = pb.CreateVolumeRequest(
                name=name, volume_capabilities=[capability()], volume_content_source=source
            )
            ids.append(client.controller.CreateVolume(request, timeout=120).volume)

        def create(name: str = f"empty-{number}", ids: list[pb.Volume] = made) -> None:
            ids.append(client.create(name, GIB))

        sample = _timed(take), _timed(clone), _timed(create)
        if number:  # the first round warms up
            for times, one in zip((snapshots, clones, creates), sample, strict=True):
                times.append(one)
        client.controller.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot_id=taken[0]), timeout=120)
        for one_volume in made:
            client.delete(one_volume.volume_id)
    return snapshots, clones, creates


def measure(gib: int) -> Times:
    with tempfile.TemporaryDirectory(prefix="gluster-csi-bench-") as temporary:
        work = Path(temporary)
        remove_abandoned()
        lab = Lab(session_instance(), device_size=f"{4 * gib + 8}G", hooks=False)
        try:
            lab.up()
            driver = Driver(lab, work / "driver", settings={"gids": {"rest_seconds": 0}})
            try:
                driver.start()
                with driver.client() as client:
                    # XFS sets aside as much again for a file that grows, and gluster refuses writes at 1 % free.
                    volume = client.create("data", (gib + 3) * GIB)
                    _write(client, volume, work, gib)
                    times = _rounds(client, volume)
                    held = _held(driver.log)[::2][1:]  # of the snapshots, without the first round
                    client.delete(volume.volume_id)
                return Times(held, *times)
            finally:
                driver.stop()
        finally:
            lab.down()


def show(console: Console, verdict: Callable[[bool], str]) -> bool:
    gib = int(os.environ.get("DATA", "10"))
    times = measure(gib)
    clone = statistics.median(times.clone) / statistics.median(times.create)
    table = Table(title=f"copies of a volume with {gib} GiB of data, replica 3, real pool (s: median, least–most)")
    for column in ("what", "time", "figure", "limit", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    rows = (
        ("(g) snapshot, barrier to barrier", times.held, statistics.median(times.held), HELD),
        ("(g) CreateSnapshot", times.snapshot, statistics.median(times.snapshot), WHOLE),
        ("(h) clone ÷ an empty volume", times.clone, clone, CLONE),
    )
    for what, samples, figure, limit in rows:
        told = f"{statistics.median(samples):.3f} ({min(samples):.3f}–{max(samples):.3f})"
        table.add_row(what, told, f"{figure:.3f}", f"{limit:g}", verdict(figure <= limit))
    console.print(table)
    return all(figure <= limit for _, _, figure, limit in rows)

"""The same with ``kill -9`` of a real process over real GlusterFS hosts, at points spread over the operation."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc

from tests.driver import GIB, Driver, patiently
from tests.lab import Lab

POINTS = 10  # for each of create and delete


def _doomed(lab: Lab, directory: Path, order: str) -> Driver:
    os.environ["DOOM"] = order
    return Driver(
        lab,
        directory,
        settings={"gids": {"rest_seconds": 0}, "recovery": {"grace": 0.0, "interval": 0.2}},
        command=(sys.executable, "-m", "tests.crash.doomed"),
    )


def _volumes(lab: Lab) -> list[str]:
    return lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "list"], check=False).stdout.split()


def _act(driver: Driver, name: str, *, deletes: bool) -> None:
    """Create a volume, or delete the one that was made before anything was armed."""
    armed = driver.directory / "armed"
    with driver.client() as client:
        volume_id = client.create(name, GIB).volume_id if deletes else ""
        armed.touch()
        with suppress(grpc.RpcError):
            if deletes:
                client.delete(volume_id)
            else:
                client.create(name, GIB)
    armed.unlink()


def _count(lab: Lab, directory: Path, *, deletes: bool) -> int:
    counts = directory / "points"
    driver = _doomed(lab, directory / "count", f"count:{counts}")
    try:
        driver.start()
        _act(driver, "pvc-count", deletes=deletes)
        total = len(counts.read_text().splitlines())
        with driver.client() as client:
            client.delete(client.create("pvc-count", GIB).volume_id)
    finally:
        driver.remove()
    counts.unlink()
    return total


def _try_point(lab: Lab, directory: Path, point: int, *, deletes: bool) -> list[str]:
    name = f"pvc-{'delete' if deletes else 'create'}-{point}"
    driver = _doomed(lab, directory / name, str(point))
    problems: list[str] = []
    try:
        driver.start()
        _act(driver, name, deletes=deletes)
        if driver.process is None or driver.process.wait(10) != -9:
            return [f"the process outlived point {point}"]
        driver.process = None
        driver.start(topology=False)
        with driver.client() as client:
            volume = patiently(lambda: client.create(name, GIB))
            again = client.create(name, GIB)
            if again.volume_id != volume.volume_id:
                problems.append("two creates, two volumes")
            if len(_volumes(lab)) != 1:
                problems.append(f"Gluster has {_volumes(lab)} instead of one volume")
            client.delete(volume.volume_id)
        problems += lab.leftovers()
    finally:
        driver.remove()
        lab.sweep()
    return problems


def run() -> Iterator[tuple[str, int, list[str]]]:
    lab = Lab(instance="crash")
    try:
        lab.up()
        with tempfile.TemporaryDirectory(prefix="gluster-csi-crash-") as temporary:
            directory = Path(temporary)
            for deletes in (False, True):
                total = _count(lab, directory, deletes=deletes)
                points = sorted({round(i * (total - 1) / (POINTS - 1)) for i in range(POINTS)})
                problems = [
                    f"point {point} of {total}: {problem}"
                    for point in points
                    for problem in _try_point(lab, directory, point, deletes=deletes)
                ]
                yield f"kill -9, {'delete' if deletes else 'create'} on real hosts", len(points), problems
    finally:
        lab.down()

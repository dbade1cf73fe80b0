"""The same with ``kill -9`` of a real process over real GlusterFS hosts, at points spread over the operation.

The state is in SQLite, or in custom resources of a real API server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from csi.core.model import Operation, Volume
from csi.kubernetes.client import KubernetesApi
from csi.store.kube import snapshot
from tests.cluster.controlplane import ControlPlane
from tests.custom_resources import forget_lease, install, wipe
from tests.driver import GIB, Driver, patiently
from tests.lab import Lab
from tests.lab.sessions import remove_abandoned, session_instance

POINTS = 10  # for each of create and delete
FEWEST = 0.8  # of the points before the one that is asked for, in a run that does not come to it
# Who is killed leaves his Lease: the next life waits for its end.
_LEASE = {"namespace": "default", "lease_seconds": 3.0, "renew_seconds": 2.0, "retry_seconds": 0.2}


@dataclass(frozen=True, slots=True)
class _Trials:
    """``kubeconfig``: of the API server that has the state; empty for SQLite."""

    lab: Lab
    directory: Path
    kubeconfig: str = ""

    def doomed(self, name: str, order: str) -> Driver:
        os.environ["DOOM"] = order
        settings: dict[str, Any] = {
            "gids": {"rest_seconds": 0},
            "recovery": {"grace": 0.0, "interval": 0.2, "settle": 2.0},
        }
        if self.kubeconfig:
            settings |= {"state": {"backend": "kubernetes"}, "kubernetes": {"kubeconfig": self.kubeconfig, **_LEASE}}
        command = (sys.executable, "-m", "tests.crash.doomed")
        return Driver(self.lab, self.directory / name, settings=settings, command=command)

    def begin(self, name: str, order: str) -> Driver:
        """Over hosts and records that know of nothing."""
        driver = self.doomed(name, order)
        if self.kubeconfig:
            self._forget()
        driver.start()
        return driver

    def _forget(self) -> None:
        asyncio.run(wipe(self.kubeconfig))
        asyncio.run(forget_lease(self.kubeconfig))
        for host in self.lab.hosts:  # they would obey the holder of the Lease that is gone
            self.lab.run(host, ["rm", "-rf", "/var/lib/gluster-csi/terms", "/run/gluster-csi.sessions"])

    def records(self) -> int:
        """Volumes and operations that the API server has, as soon as it has no more of these."""
        return asyncio.run(_held(self.kubeconfig)) if self.kubeconfig else 0


async def _held(kubeconfig: str) -> int:
    api = KubernetesApi(kubeconfig)
    left: list[Volume | Operation] = []
    try:
        for _ in range(100):
            records = (await snapshot.load(api)).records
            if not (left := [r for r in records if isinstance(r, Volume | Operation)]):
                return 0
            await asyncio.sleep(0.05)
        return len(left)
    finally:
        await api.close()


def _volumes(lab: Lab) -> list[str]:
    return lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "list"], check=False).stdout.split()


def _act(driver: Driver, name: str, *, deletes: bool) -> str:
    """Create a volume, or delete the one that was made before anything was armed. What was said, if it was refused."""
    armed = driver.directory / "armed"
    refusal = ""
    with driver.client() as client:
        volume_id = client.create(name, GIB).volume_id if deletes else ""
        armed.touch()
        try:
            if deletes:
                client.delete(volume_id)
            else:
                client.create(name, GIB)
        except grpc.RpcError as error:
            refusal = str(error)
    armed.unlink()
    return refusal


def _seen(driver: Driver) -> int:
    return len((driver.directory / "points").read_text().splitlines())


def _count(trials: _Trials, *, deletes: bool) -> int:
    driver = trials.begin("count", "never")
    try:
        if refusal := _act(driver, "pvc-count", deletes=deletes):
            raise RuntimeError(f"nothing was killed, and yet it was refused: {refusal}")
        total = _seen(driver)
        with driver.client() as client:
            client.delete(client.create("pvc-count", GIB).volume_id)
    finally:
        driver.remove()
    return total


def _killed(driver: Driver, refusal: str, point: int) -> str:
    """See the end of the process; what is wrong with it, if anything is.

    The last points are not in every run: gluster is asked again until all bricks are online, and what looks after the
    pool may ask it in between or not. A run that had answered before its point came is killed after its answer.
    """
    assert driver.process is not None
    try:
        status = driver.process.wait(10)
    except subprocess.TimeoutExpired:
        if refusal:
            return f"nothing was killed, and yet it was refused: {refusal}"
        if not point * FEWEST <= (seen := _seen(driver)) <= point:
            return f"the process outlived the point: {seen} were seen"
        print(f"answered after {seen} points, before point {point}: killed then", flush=True)
        driver.process.kill()
        status = driver.process.wait(10)
    driver.process = None
    return "" if status == -signal.SIGKILL else f"the process ended with status {status}"


def _try_point(trials: _Trials, point: int, *, deletes: bool) -> list[str]:
    name, lab = f"pvc-{'delete' if deletes else 'create'}-{point}", trials.lab
    driver = trials.begin(name, str(point))
    problems: list[str] = []
    try:
        if problem := _killed(driver, _act(driver, name, deletes=deletes), point):
            return [problem]
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
        if left := trials.records():
            problems.append(f"{left} records are left")
    finally:
        driver.remove()
        lab.sweep()
    return problems


def run() -> Iterator[tuple[str, int, list[str]]]:
    with _laboratory() as (lab, directory):
        yield from _all(_Trials(lab, directory), "real hosts")


def run_on_api_server() -> Iterator[tuple[str, int, list[str]]]:
    with _laboratory() as (lab, directory), ControlPlane() as plane:
        kubeconfig = str(plane.kubeconfig)
        asyncio.run(install(kubeconfig))
        yield from _all(_Trials(lab, directory, kubeconfig), "real hosts, state on a real API server")


@contextmanager
def _laboratory() -> Iterator[tuple[Lab, Path]]:
    remove_abandoned()
    lab = Lab(session_instance())
    try:
        lab.up()
        with tempfile.TemporaryDirectory(prefix="gluster-csi-crash-") as temporary:
            yield lab, Path(temporary)
    finally:
        lab.down()


def _all(trials: _Trials, where: str) -> Iterator[tuple[str, int, list[str]]]:
    for deletes in (False, True):
        total = _count(trials, deletes=deletes)
        points = sorted({round(i * (total - 1) / (POINTS - 1)) for i in range(POINTS)})
        problems = [
            f"point {point} of {total}: {problem}"
            for point in points
            for problem in _try_point(trials, point, deletes=deletes)
        ]
        yield f"kill -9, {'delete' if deletes else 'create'} on {where}", len(points), problems

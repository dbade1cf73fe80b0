"""A driver over the laboratory. The tests of a file share one: a start costs as much as most of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import Client, Driver
from tests.lab import Lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure comes what the driver and its GlusterFS clients have logged: both go with the test."""
    report = yield
    if report.when == "call" and report.failed:
        for driver in getattr(item, "funcargs", {}).values():
            if isinstance(driver, Driver):
                for log in (driver.log, *sorted((driver.directory / "log").glob("*.log"))):
                    with suppress(OSError):
                        report.sections.append(
                            (log.name, "\n".join(log.read_text(errors="replace").splitlines()[-40:]))
                        )
    return report


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """Of the drivers of a file."""
    return {"gids": {"rest_seconds": 0}}


@pytest.fixture(scope="module")
def drivers(lab: Lab) -> Iterator[list[Driver]]:
    """The one that runs, or none."""
    running: list[Driver] = []
    yield running
    for driver in running:
        driver.remove()


@pytest.fixture
def driver(
    drivers: list[Driver], clean_lab: Lab, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    """Another one after a test that ended it, or left it anything."""
    if not drivers:
        made = Driver(clean_lab, Path(tmp_path_factory.mktemp("driver")), settings=settings)
        drivers.append(made)
        made.start()
    (driver,) = drivers
    process = driver.process
    yield driver
    if driver.process is not process or not _is_blank(driver):
        driver.remove()
        drivers.clear()


def _is_blank(driver: Driver) -> bool:
    try:
        with driver.client() as client:
            volumes = client.controller.ListVolumes(pb.ListVolumesRequest(), timeout=5).entries
            return not volumes and not client.controller.ListSnapshots(pb.ListSnapshotsRequest(), timeout=5).entries
    except grpc.RpcError:
        return False


@pytest.fixture
def client(driver: Driver) -> Iterator[Client]:
    with driver.client() as client:
        yield client

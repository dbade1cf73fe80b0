"""One driver for the tests of a module on real LVM: a start takes ten seconds there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from csi.bricks.lvm import LvmBackend
from csi.hosts.ssh import SshRunner, SshSettings
from tests.driver import Client, Driver
from tests.lab import Lab, vm
from tests.lab.system import SLOWNESS
from tests.lvm.bricks import INSTANCE, clear


@pytest.fixture(scope="session", autouse=True)
def _in_the_virtual_machine() -> None:
    if not vm.inside():
        pytest.skip("THE TESTS OF LVM DID NOT RUN: they need `make lab-lvm`")


# Not for longer: other modules have tests that blank the disks which it has claimed.
@pytest.fixture(scope="module")
def running(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(lab, Path(tmp_path_factory.mktemp("driver")), settings={"gids": {"rest_seconds": 0}})
    try:
        driver.start()
        yield driver
    finally:
        driver.remove()


@pytest.fixture
def driver(running: Driver, clean_lab: Lab) -> Driver:
    return running


@pytest.fixture
def client(driver: Driver) -> Iterator[Client]:
    with driver.client() as client:
        yield client


@pytest.fixture
async def backend(clean_lab: Lab) -> AsyncIterator[LvmBackend]:
    """By itself, over the first host, whose disks are blank before and after."""
    port, key, known = clean_lab.hosts[0].ssh_port, str(clean_lab.key_file), str(clean_lab.known_hosts)
    runner = SshRunner(SshSettings(port=port, key_file=key, known_hosts=known, connect_timeout=5.0 * SLOWNESS))
    clear(clean_lab)
    yield LvmBackend(runner, INSTANCE)
    await runner.close()
    clear(clean_lab)

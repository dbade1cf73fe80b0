"""A driver over the laboratory, for tests that need no other settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.driver import Client, Driver
from tests.lab import Lab


@pytest.fixture
def driver(clean_lab: Lab, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(clean_lab, tmp_path / "driver", settings={"gids": {"rest_seconds": 0}})
    driver.start()
    yield driver
    driver.remove()


@pytest.fixture
def client(driver: Driver) -> Iterator[Client]:
    with driver.client() as client:
        yield client

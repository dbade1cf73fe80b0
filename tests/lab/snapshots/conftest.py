"""One driver, with small bricks, for all tests of snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.driver import GIB, Driver
from tests.lab import Lab


@pytest.fixture(scope="package")
def settings() -> dict[str, Any]:
    """A volume of 2 GiB has two sets of bricks."""
    return {"gids": {"rest_seconds": 0}, "placement": {"max_brick": GIB}}


# As in the directory above, but one driver for all files of this one: their settings are the same.
@pytest.fixture(scope="package")
def drivers(lab: Lab) -> Iterator[list[Driver]]:
    """The one that runs, or none."""
    running: list[Driver] = []
    yield running
    for driver in running:
        driver.remove()

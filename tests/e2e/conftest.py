"""The installation that the end-to-end tests use: one per session, and a look at the pool after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.installation import Installation
from tests.lab.pool import Lab


@pytest.fixture(scope="session")
def session_installation(cluster: Cluster, lab: Lab) -> Iterator[Installation]:
    installation = Installation(cluster, lab)
    installation.load_images()
    installation.prepare()
    installation.install(installation.values())
    yield installation
    installation.uninstall()


@pytest.fixture
def installed(session_installation: Installation, clean_lab: Lab) -> Installation:
    """The release, on a pool that a test leaves as it found it."""
    del clean_lab  # it looks, after the test
    return session_installation

"""The cluster for pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.controlplane import ControlPlane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server with its etcd, for as long as the session lasts. What a test makes in it, it removes."""
    with ControlPlane() as plane:
        yield plane

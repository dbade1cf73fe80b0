"""The cluster for pytest: the API alone, or a whole node. One of each per session, when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.lab.sessions import abandoned, session_instance


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server with its etcd, for as long as the session lasts. What a test makes in it, it removes."""
    with ControlPlane() as plane:
        yield plane


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Kubernetes on a node. What a test makes in it, it removes."""
    remove_abandoned()
    cluster = Cluster(session_instance())
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
    assert cluster.leftovers() == []


def remove_abandoned() -> None:
    """Clusters of pytest sessions that were killed."""
    for instance in abandoned("gluster-cluster-"):
        Cluster(instance).down()

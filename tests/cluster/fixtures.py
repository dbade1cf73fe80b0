"""The cluster for pytest: the API alone, or a whole node. One of each per session, when the first test asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import ControlPlane
from tests.lab.sessions import session_instance
from tests.lab.system import alive


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
    for pointer in Path("/run").glob("gluster-cluster-t*"):
        instance = pointer.name.removeprefix("gluster-cluster-")
        with contextlib.suppress(ValueError):  # a cluster with a name that somebody chose
            if not alive(int(instance[1:], 16)):
                Cluster(instance).down()

"""Worlds with mounts: in memory, this machine with tmpfs, and real GlusterFS clients, started here or by the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.contract.mounts.worlds import DaemonWorld, GlusterWorld, RealWorld, SimulatedWorld, World, gluster_volume
from tests.lab.pool import Lab
from tests.mounts_daemon import MountsDaemon

LAB = pytest.param("glusterfs", marks=pytest.mark.lab)
DAEMON = pytest.param("daemon", marks=pytest.mark.lab)


# Once for all files of this directory: a volume and a daemon take seconds.
@pytest.fixture(scope="package")
def volume(lab: Lab) -> Iterator[Lab]:
    with gluster_volume(lab) as made:
        yield made


@pytest.fixture(scope="package")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MountsDaemon]:
    daemon = MountsDaemon(tmp_path_factory.mktemp("daemon"))
    try:
        daemon.start()
        yield daemon
        assert daemon.zombies() == []
    finally:
        daemon.remove()


def make(kind: str, request: pytest.FixtureRequest, directory: Path) -> SimulatedWorld | RealWorld | GlusterWorld:
    match kind:
        case "simulated":
            return SimulatedWorld()
        case "tmpfs":
            return RealWorld(directory)
        case "daemon":
            return DaemonWorld(request.getfixturevalue("volume"), request.getfixturevalue("daemon"))
        case _:
            return GlusterWorld(directory, request.getfixturevalue("volume"))


@pytest.fixture(params=["simulated", "tmpfs", LAB, DAEMON])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world = make(request.param, request, tmp_path)
    yield world
    await world.close()


@pytest.fixture(params=["simulated", LAB, DAEMON])
async def clients(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SimulatedWorld | GlusterWorld]:
    """Worlds whose mounts have a client that can fall ill."""
    world = cast("SimulatedWorld | GlusterWorld", make(request.param, request, tmp_path))
    yield world
    await world.close()


@pytest.fixture(params=["glusterfs", "daemon"])
async def gluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GlusterWorld]:
    world = cast("GlusterWorld", make(request.param, request, tmp_path))
    yield world
    await world.close()


@pytest.fixture
async def direct(volume: Lab, tmp_path: Path) -> AsyncIterator[GlusterWorld]:
    world = GlusterWorld(tmp_path, volume)
    yield world
    await world.close()

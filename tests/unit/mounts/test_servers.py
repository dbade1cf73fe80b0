"""The file with the present servers: read again when it changes, kept when it can't be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from csi.mounts.servers import ServersFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "servers.json"


async def test_no_file_is_no_knowledge(path: Path) -> None:
    assert await ServersFile(path, "node").servers_of("1") == ()


async def test_what_is_remembered_outlives_the_process(path: Path) -> None:
    await ServersFile(path, "node").remember({"c": ["a", "b"]}, {"1": "c", "2": "gone"})
    again = ServersFile(path, "node")
    assert set(await again.servers_of("1")) == {"a", "b"}
    assert await again.servers_of("2") == await again.servers_of("3") == ()


async def test_each_node_has_its_own_order(path: Path) -> None:
    await ServersFile(path, "node").remember({"c": ["a", "b", "d"]}, {"1": "c"})
    orders = {await ServersFile(path, f"node-{i}").servers_of("1") for i in range(50)}
    assert len(orders) == 6


async def test_a_change_by_hand_is_seen_and_nonsense_is_not_believed(path: Path) -> None:
    servers = ServersFile(path, "node")
    await servers.remember({"c": ["a"]}, {"1": "c"})
    path.write_text('{"clusters": {"c": ["new", "--volfile=/etc/passwd"]}, "volumes": {"1": "c"}}')
    assert await servers.servers_of("1") == ("new",)
    path.write_text("{")
    assert await servers.servers_of("1") == ("new",)
    os.unlink(path)
    assert await servers.servers_of("1") == ("new",)


async def test_a_file_that_cannot_be_written_is_no_error(path: Path) -> None:
    path.parent.write_text("a file")
    servers = ServersFile(path, "node")
    await servers.remember({"c": ["a"]}, {"1": "c"})
    assert await servers.servers_of("1") == ("a",)

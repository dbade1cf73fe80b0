"""State files of older schemas are brought forward, or left as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from csi.core.errors import StateUnusable
from csi.core.model import Device, Host
from csi.ports import Put
from csi.store.schema import APPLICATION_ID, CURRENT, Documents, Schema
from csi.store.sqlite import SqliteStore
from tests.unit.store.statefile import edit, fill, load


def split_zones(documents: Documents) -> Documents:
    """1 -> 2: a made-up change: hosts were called machines, and a device's size was kept in KiB."""
    hosts = [{**machine, "zone": int(machine["area"])} for machine in documents.pop("machines")]
    return {**documents, "hosts": hosts}


def count_bytes(documents: Documents) -> Documents:
    """2 -> 3."""
    return {**documents, "devices": [{**d, "total": d["total_kib"] * 1024} for d in documents["devices"]]}


NOW = Schema(3, migrations={1: split_zones, 2: count_bytes})
OLD_TABLE = "(id TEXT PRIMARY KEY, version INTEGER, document TEXT)"


def old_file(path: Path) -> None:
    """A file as a version 1 that had other tables and fields would have written it."""
    edit(
        path,
        f"PRAGMA application_id = {APPLICATION_ID}",
        "PRAGMA user_version = 1",
        *(f"CREATE TABLE {name} {OLD_TABLE}" for name in ("clusters", "machines", "devices")),
        """INSERT INTO clusters VALUES ('c1', 4, '{"id": "c1", "version": 4}')""",
        """INSERT INTO machines VALUES ('h1', 1, '{"id": "h1", "cluster_id": "c1", "manage": "m", "storage": "s",
           "area": "7", "version": 1}')""",
        """INSERT INTO devices VALUES ('d1', 2, '{"id": "d1", "host_id": "h1", "path": "/dev/sdb", "backend": "lvm",
           "total_kib": 5, "version": 2}')""",
    )


async def test_an_older_file_is_brought_forward_step_by_step(path: Path) -> None:
    old_file(path)
    inventory = await load(path, NOW)
    (host,), (device,) = inventory.hosts.values(), inventory.devices.values()
    assert isinstance(host, Host)
    assert host.zone == 7
    assert isinstance(device, Device)
    assert (device.total, device.version) == (5120, 2)
    assert next(iter(inventory.clusters.values())).version == 4


async def test_a_migrated_file_is_as_good_as_a_new_one(path: Path) -> None:
    old_file(path)
    before = await load(path, NOW)
    store = SqliteStore(path, NOW)
    await store.open()
    assert store.inventory == before
    (host,) = before.hosts.values()
    after = await store.commit([Put(host)])
    assert after.hosts[host.id].version == 2
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert "machines" not in names
        assert "volume_bricks" in names
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


async def test_the_older_file_is_kept(path: Path) -> None:
    old_file(path)
    await load(path, NOW)
    with closing(sqlite3.connect(path.with_name("state.db.schema-1"))) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT id FROM machines").fetchall() == [("h1",)]


@pytest.mark.parametrize("damage", ["UPDATE machines SET document = '{}'", "DELETE FROM clusters"])
async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, damage: str) -> None:
    old_file(path)
    edit(path, damage)
    with pytest.raises(StateUnusable, match=r"from schema 1 to 3 .*left as it is"):
        await load(path, NOW)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT id FROM machines").fetchall() == [("h1",)]


def test_the_present_schema_reaches_every_older_version() -> None:
    assert all(CURRENT.can_migrate(version) for version in range(1, CURRENT.version + 1))


async def test_a_file_without_snapshots_is_brought_forward(path: Path) -> None:
    """As version 1 wrote it: the same tables but those of snapshots."""
    await fill(path)
    before = await load(path)
    edit(
        path,
        "DROP TABLE snapshot_bricks",
        "DROP TABLE snapshots",
        "PRAGMA user_version = 1",
    )
    assert await load(path) == before
    assert not (await load(path)).snapshots

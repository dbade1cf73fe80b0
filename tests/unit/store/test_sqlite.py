"""The state file itself: what is refused at the start, what a full or failing disk does, migrations."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from csi.core.errors import StaleState, StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Cluster, ClusterId, Device, Gid, Host, RestingGid
from csi.ports import Put
from csi.store.schema import APPLICATION_ID, CURRENT, Documents, Schema
from csi.store.sqlite import SqliteStore
from tests.contract.records import CLUSTER, DEVICES, HOSTS, TOPOLOGY, creation, put, volume


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def fill(path: Path) -> Inventory:
    store = SqliteStore(path)
    await store.open()
    await put(store, *TOPOLOGY, volume("a"))
    await put(store, creation(volume("b", gid=2001)), RestingGid(Gid(2002), until=1.5))
    await store.close()
    return store.inventory


async def load(path: Path, schema: Schema = CURRENT) -> Inventory:
    store = SqliteStore(path, schema)
    await store.open()
    await store.close()
    return store.inventory


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def refused(path: Path, *says: str, schema: Schema = CURRENT) -> None:
    """Opening is refused with words on path, reason and remedy, and leaves everything as it was."""
    before = contents(path.parent)
    with pytest.raises(StateUnusable) as caught:
        await load(path, schema)
    for word in (str(path), *says):
        assert word in str(caught.value)
    assert contents(path.parent) == before


def contents(directory: Path) -> dict[str, bytes]:
    # SQLite's own companions may be made anew; the state is in the file.
    return {
        entry.name: entry.read_bytes()
        for entry in directory.iterdir()
        if entry.is_file() and not entry.name.endswith(("-shm", "-wal", ".lock"))
    }


# --- a new file -------------------------------------------------------------------------------


async def test_a_new_file_is_private_and_ours(path: Path) -> None:
    await load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.with_name("state.db.new").exists()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (CURRENT.version,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_what_a_crash_left_of_a_new_file_is_no_hindrance(path: Path) -> None:
    path.with_name("state.db.new").write_bytes(b"half")
    assert await load(path) == Inventory()


async def test_names_of_any_shape_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=ro#c%20'ü.db"
    before = await fill(path)
    assert await load(path) == before
    assert path.exists()


# --- refused at the start ---------------------------------------------------------------------


async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no" / "state.db"
    with pytest.raises(StateUnusable, match=r"no/state\.db.*directory does not exist.*state\.path"):
        await load(path)
    assert not path.parent.exists()


async def test_an_empty_file_is_damage_and_no_beginning(path: Path) -> None:
    path.touch()
    await refused(path, "empty", "backup")


async def test_a_log_without_its_file_is_damage(path: Path) -> None:
    path.with_name("state.db-wal").write_bytes(b"x" * 4096)
    await refused(path, "missing", "state.db-wal", "backup")
    assert path.with_name("state.db-wal").read_bytes() == b"x" * 4096


@pytest.mark.parametrize("offset", [0, 16, 4096 + 5, 3 * 4096 + 2])
async def test_a_corrupt_file_is_refused(path: Path, offset: int) -> None:
    await fill(path)
    data = bytearray(path.read_bytes())
    data[offset : offset + 64] = b"\xa5" * 64
    path.write_bytes(data)
    await refused(path, "backup")


async def test_a_truncated_file_is_refused(path: Path) -> None:
    await fill(path)
    path.write_bytes(path.read_bytes()[: 4096 * 5])
    await refused(path, "malformed", "backup")


async def test_text_is_refused(path: Path) -> None:
    path.write_text("not a database at all\n" * 100)
    await refused(path, "not a database", "backup")


async def test_a_database_of_another_program_is_refused(path: Path) -> None:
    edit(path, "CREATE TABLE songs (title TEXT)")
    await refused(path, "another program", "state.path")


async def test_a_newer_file_is_refused(path: Path) -> None:
    await fill(path)
    edit(path, f"PRAGMA user_version = {CURRENT.version + 1}")
    await refused(path, f"schema {CURRENT.version + 1}", "newer program")


async def test_an_older_file_without_a_way_up_is_refused(path: Path) -> None:
    await fill(path)
    await refused(
        path, "release in between", schema=Schema(CURRENT.version + 2, migrations={CURRENT.version + 1: dict})
    )


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE volumes SET document = CAST('{}' AS BLOB)", "missing required field"),
        ("UPDATE volumes SET document = x'ff'", "not a valid Volume"),
        ("UPDATE volumes SET version = 9", "at version 9"),
        ("UPDATE resting SET id = 'f'", "the row names 'f'"),
        ("DELETE FROM clusters", "refers to a row of clusters"),
        ("DELETE FROM devices", "refers to a row of devices"),
    ],
)
async def test_a_document_that_is_damaged_is_refused_by_table_and_row(path: Path, statement: str, says: str) -> None:
    await fill(path)
    edit(path, statement)
    await refused(path, "corrupt", says, "backup")


@pytest.mark.parametrize("locked", ["the file", "its directory"])
def test_what_may_not_be_written_is_refused(tmp_path: Path, locked: str) -> None:
    # In a process without rights, since root may write everything.
    directory = tmp_path / "state"
    directory.mkdir()
    path = directory / "state.db"
    asyncio.run(fill(path))
    path.with_name("state.db.lock").chmod(0o666)
    path.chmod(0o444 if locked == "the file" else 0o666)
    directory.chmod(0o777 if locked == "the file" else 0o555)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        try:
            asyncio.run(load(path))
        except StateUnusable as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    with os.fdopen(told) as words:
        said = words.read()
    assert str(path) in said
    assert "mount its file system writable" in said


# --- a second process -------------------------------------------------------------------------


async def test_a_second_process_is_refused_and_told_who_holds_it(path: Path) -> None:
    code = """
        import asyncio, sys, time
        from pathlib import Path
        from csi.store.sqlite import SqliteStore
        asyncio.run(SqliteStore(Path(sys.argv[1])).open())
        print("open", flush=True)
        time.sleep(60)
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StateUnusable, match=rf"in use by process {holder.pid} on .*state\.path"):
            await load(path)
        link = path.with_name("link.db")
        link.symlink_to(path)
        with pytest.raises(StateUnusable, match=f"process {holder.pid}"):
            await load(link)
    finally:
        holder.kill()
        holder.communicate()
    assert await load(path) == Inventory()  # the lock died with its process


async def test_a_second_store_of_the_same_process_is_refused(path: Path) -> None:
    first = SqliteStore(path)
    await first.open()
    with pytest.raises(StateUnusable, match=f"process {os.getpid()}"):
        await load(path)
    await put(first, CLUSTER)  # the refusal did not cost the first one its lock
    with pytest.raises(StateUnusable, match=f"process {os.getpid()}"):
        await load(path)
    await first.close()
    assert CLUSTER.id in (await load(path)).clusters


# --- trouble while it runs --------------------------------------------------------------------


class Faulty(sqlite3.Connection):
    """Fails at the statements that begin with a key of ``faults``."""

    faults: ClassVar[dict[str, sqlite3.Error]] = {}

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        for start, fault in Faulty.faults.items():
            if sql.startswith(start):
                raise fault
        return super().execute(sql, *values)


def fault(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, sqlite3.Error]]:
    connect = sqlite3.connect

    def faulty(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, factory=Faulty, **kwargs)

    monkeypatch.setattr("csi.store.sqlite.sqlite3.connect", faulty)
    Faulty.faults = {}
    yield Faulty.faults
    Faulty.faults = {}


async def test_a_full_disk_changes_nothing_and_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await fill(path)
    connect, opened = sqlite3.connect, []

    def bounded(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, check_same_thread=False, **kwargs)
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are
        opened.append(connection)
        return connection

    monkeypatch.setattr("csi.store.sqlite.sqlite3.connect", bounded)
    store = SqliteStore(path)
    await store.open()
    many = [volume(f"v{i}", gid=3000 + i) for i in range(200)]
    with pytest.raises(StateUnusable, match=r"full.*free some space"):
        await put(store, *many)
    assert store.inventory == before
    opened[0].execute("PRAGMA max_page_count = 100000")
    after = await put(store, *many)
    assert len(after.volumes) == len(before.volumes) + 200
    await store.close()
    assert await load(path) == after


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO volumes", "INSERT INTO volume_bricks"])
async def test_an_error_before_the_commit_changes_nothing_and_passes(
    path: Path, faults: dict[str, sqlite3.Error], at: str
) -> None:
    store = SqliteStore(path)
    await store.open()
    before = await put(store, *TOPOLOGY)
    faults[at] = fault(sqlite3.SQLITE_IOERR)
    with pytest.raises(StateUnusable, match="kernel log"):
        await put(store, volume("a"))
    assert store.inventory is before
    faults.clear()
    after = await put(store, volume("b"))
    await store.close()
    assert await load(path) == after


async def test_after_an_error_in_the_commit_itself_nothing_passes_until_a_restart(
    path: Path, faults: dict[str, sqlite3.Error]
) -> None:
    store = SqliteStore(path)
    await store.open()
    before = await put(store, *TOPOLOGY)
    faults["COMMIT"] = fault(sqlite3.SQLITE_IOERR | (4 << 8))  # SQLITE_IOERR_FSYNC
    with pytest.raises(StateUnusable):
        await put(store, volume("a"))
    faults.clear()
    with pytest.raises(StateUnusable, match=r"outcome of an earlier commit is not known.*restart"):
        await put(store, volume("b"))
    assert store.inventory is before
    await store.close()
    assert await load(path) == before


async def test_a_file_changed_behind_our_back_is_noticed(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    before = await put(store, *TOPOLOGY)
    edit(path, "UPDATE hosts SET version = 5")
    with pytest.raises(StateUnusable, match=r"changed by another program.*restart"):
        await put(store, before.hosts[HOSTS[0].id])
    with pytest.raises(StateUnusable, match="restart"):
        await put(store, volume("a"))
    await store.close()


async def test_the_foreign_keys_are_a_second_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csi.store.guard._check_references", lambda *_: None)
    store = SqliteStore(path)
    await store.open()
    for record in (HOSTS[0], DEVICES[0], volume("a"), creation(volume("a"))):
        with pytest.raises(StaleState, match="FOREIGN KEY"):
            await put(store, record)
    after = await put(store, *TOPOLOGY)
    await store.close()
    assert await load(path) == after


async def test_a_record_without_json_form_is_refused_alone(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    before = await put(store, CLUSTER)
    with pytest.raises(ValueError, match="surrogates"):
        await put(store, HOSTS[1], Cluster(ClusterId("\ud800")))
    assert store.inventory is before
    after = await put(store, *HOSTS)
    await store.close()
    assert await load(path) == after


async def test_a_cancelled_open_leaves_no_lock(path: Path) -> None:
    for turns in range(4):
        store = SqliteStore(path)
        opening = asyncio.create_task(store.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        if not opening.cancelled():
            await store.close()
        assert await load(path) == Inventory()


async def test_the_loop_goes_on_while_the_disk_is_slow(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await put(store, CLUSTER)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        commit = asyncio.create_task(put(store, *HOSTS))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not commit.done()
        other.execute("ROLLBACK")
    await commit
    await store.close()


async def test_a_commit_whose_caller_is_cancelled_moves_file_and_memory_together(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await put(store, CLUSTER)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")  # holds the commit up where the thread has it already
        commit = asyncio.create_task(put(store, *HOSTS))
        await asyncio.sleep(0.3)
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
        assert commit.cancelled()
        other.execute("ROLLBACK")
    after = await put(store, *DEVICES)
    assert len(after.hosts) == len(HOSTS)
    await store.close()
    assert await load(path) == after


# --- migrations -------------------------------------------------------------------------------


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

"""The state file itself: a new one, and what is refused at the start."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
from csi.store.schema import APPLICATION_ID, CURRENT, Schema
from csi.store.sqlite import SqliteStore
from tests.contract.records import CLUSTER, put
from tests.unit.store.statefile import edit, fill, load


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

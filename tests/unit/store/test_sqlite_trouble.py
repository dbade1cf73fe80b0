"""What a full, failing or slow disk, other programs and cancelled callers do to a state file in use."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest

from csi.core.errors import StaleState, StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Cluster, ClusterId
from csi.store.sqlite import SqliteStore
from tests.contract.records import CLUSTER, DEVICES, HOSTS, TOPOLOGY, creation, put, volume
from tests.unit.store.statefile import edit, fill, load


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
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    opened: list[sqlite3.Connection] = []

    def bounded(*args: object, **kwargs: object) -> sqlite3.Connection:
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

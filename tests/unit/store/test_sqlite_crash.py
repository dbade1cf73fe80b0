"""A crash in the middle of a commit: the reopened state is the one before or the one after, never between."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from csi.core.inventory import Inventory
from csi.ports import Put, Remove, Store
from csi.store.memory import MemoryStore
from csi.store.sqlite import SqliteStore
from tests.contract.records import TOPOLOGY, creation, put, volume


async def prepare(store: Store) -> None:
    await store.open()
    await put(store, *TOPOLOGY, volume("a"))
    await put(store, creation(volume("b", gid=2001)))


async def finish(store: Store) -> None:
    """The commit that is cut: one record changed, one added, one removed, with their bricks."""
    inventory = store.inventory
    (operation,) = inventory.operations.values()
    a = inventory.volumes[volume("a").id]
    await store.commit([Put(replace(a, size=2 << 30)), Put(operation.volume), Remove(operation)])


def states() -> tuple[Inventory, Inventory]:
    async def both() -> tuple[Inventory, Inventory]:
        store = MemoryStore()
        await prepare(store)
        before = store.inventory
        await finish(store)
        return before, store.inventory

    return asyncio.run(both())


def load(path: Path) -> Inventory:
    async def opened() -> Inventory:
        store = SqliteStore(path)
        await store.open()
        await store.close()
        return store.inventory

    return asyncio.run(opened())


def in_a_child(work: Callable[[], None]) -> int:
    """The signal that ended the child, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killed_at(path: Path, statement: int) -> bool:
    """Do the commit in a process that is killed when it comes to its n-th statement; False: it has fewer."""

    async def work() -> None:
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect
        connections: list[sqlite3.Connection] = []

        def watched(*args: object, **kwargs: object) -> sqlite3.Connection:
            connections.append(connect(*args, check_same_thread=False, **kwargs))
            return connections[-1]

        sqlite3.connect = watched  # type: ignore[assignment]
        store = SqliteStore(path)
        await store.open()
        left = statement

        def count(sql: str) -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        connections[-1].set_trace_callback(count)
        await finish(store)

    return in_a_child(lambda: asyncio.run(work())) == signal.SIGKILL


def test_killed_before_each_statement_of_a_commit(tmp_path: Path) -> None:
    before, after = states()
    seen = []
    for statement in range(100):
        path = tmp_path / f"{statement}.db"
        asyncio.run(_prepared(path))
        killed = killed_at(path, statement)
        seen.append(load(path))
        assert seen[-1] == (before if killed else after), f"killed at statement {statement}"
        if not killed:
            break
    assert len(seen) >= 7  # BEGIN, those of three records and their bricks, COMMIT, and the one that came through
    assert seen[-1] == after


async def _prepared(path: Path) -> None:
    store = SqliteStore(path)
    await prepare(store)
    await store.close()


def test_power_lost_at_any_byte_of_the_log(tmp_path: Path) -> None:
    """The log is cut at many places, as when the disk has taken only a part of it."""
    before, after = states()
    path = tmp_path / "state.db"

    async def work() -> None:
        store = SqliteStore(path)
        await store.open()
        await finish(store)
        os.kill(os.getpid(), signal.SIGKILL)  # the log stays as it is

    asyncio.run(_prepared(path))
    assert in_a_child(lambda: asyncio.run(work())) == signal.SIGKILL
    log = path.with_name("state.db-wal").read_bytes()
    assert len(log) > 3 * 4096
    (page,) = struct.unpack(">I", log[8:12])
    frame = page + 24
    cuts = {0, 1, 31, 32, len(log) - 1, len(log), *range(32, len(log), frame), *range(33, len(log), frame)}
    found = []
    for number, cut in enumerate(sorted(cuts)):
        copy = tmp_path / str(number) / "state.db"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        copy.with_name("state.db-wal").write_bytes(log[:cut])
        found.append(load(copy))
        assert found[-1] in (before, after), f"cut at byte {cut} of {len(log)}"
    assert found[0] == before
    assert found[-1] == after


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """What was acknowledged is there, in order; of what came after it at most one commit, and that one whole."""
    path = tmp_path / "state.db"
    told, tell = os.pipe()

    async def work() -> None:
        store = SqliteStore(path)
        await store.open()
        await put(store, *TOPOLOGY)
        os.write(tell, b".")
        for number in range(5000):
            pair = (volume(f"{number}-left", gid=2000 + 2 * number), volume(f"{number}-right", gid=2001 + 2 * number))
            await put(store, *pair)
            os.write(tell, b".")

    child = os.fork()
    if child == 0:
        try:
            asyncio.run(work())
        finally:
            os._exit(1)
    os.close(tell)
    os.read(told, 1)
    # Killed at a moment that has nothing to do with the commits: the parent's own clock.
    signal.sigtimedwait([signal.SIGUSR2], random.Random(seed).uniform(0.001, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = 0
    while block := os.read(told, 65536):
        acknowledged += len(block)
    os.close(told)

    names = {stored.name for stored in load(path).volumes.values()}
    present = len(names) // 2
    assert acknowledged <= present <= acknowledged + 1
    assert names == {f"{number}-{side}" for number in range(present) for side in ("left", "right")}

"""Stores agree with each other, whatever is committed: the one in memory with each of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from csi.core.errors import DriverError
from csi.core.inventory import Inventory
from csi.core.model import Gid, Record, RestingGid
from csi.ports import Change, Put, Remove, Store
from csi.store.kube import KubeStore
from csi.store.kube.writes import repairs
from csi.store.memory import MemoryStore
from csi.store.sqlite import SqliteStore
from tests.api_double import ApiDouble, Server
from tests.contract.records import TOPOLOGY, creation, snapshot, volume

NAMES = ("a", "b", "c")
POOL: tuple[Record, ...] = (
    *TOPOLOGY,
    *(volume(name) for name in NAMES),
    *(creation(volume(name)) for name in NAMES),
    *(snapshot(name) for name in NAMES),
    RestingGid(Gid(2000), 1.0),
)
CHANGES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.booleans(), st.integers(0, len(POOL) - 1)), max_size=4, unique_by=lambda c: c[1]),
        st.integers(0, 9).map(lambda n: max(0, n - 8)),  # now and then on a version that is not the present one
    ),
    max_size=25,
)


async def outcome(store: Store, changes: list[Change]) -> type[DriverError] | Inventory:
    try:
        return await store.commit(changes)
    except DriverError as error:
        return type(error)


@settings(max_examples=40, deadline=None)
@given(steps=CHANGES)
def test_memory_and_sqlite_say_the_same(steps: list[tuple[list[tuple[bool, int]], int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.db"
        asyncio.run(_compare(steps, lambda: SqliteStore(path)))


@settings(max_examples=40, deadline=None)
@given(steps=CHANGES)
def test_memory_and_custom_resources_say_the_same(steps: list[tuple[list[tuple[bool, int]], int]]) -> None:
    server = Server()
    asyncio.run(_compare(steps, lambda: KubeStore(ApiDouble(server)), repairs_pairs=True))


async def _compare(
    steps: list[tuple[list[tuple[bool, int]], int]], make: Callable[[], Store], *, repairs_pairs: bool = False
) -> None:
    """``repairs_pairs``: the store takes a volume beside its creation for a commit that was cut short."""
    memory, other = MemoryStore(), make()
    await memory.open()
    await other.open()
    try:
        for part in ((), tuple((True, i) for i in range(len(TOPOLOGY)))):
            await _step(memory, other, list(part), 0)
        for picks, off in steps:
            await _step(memory, other, picks, off)
    finally:
        await other.close()
    if repairs_pairs:
        await memory.commit(repairs(memory.inventory))
    again = make()
    await again.open()
    try:
        assert again.inventory == memory.inventory
    finally:
        await again.close()


async def _step(memory: Store, other: Store, picks: list[tuple[bool, int]], off: int) -> None:
    changes: list[Change] = []
    for is_put, index in picks:
        stored = memory.inventory.find(POOL[index])
        record = replace(POOL[index], version=(stored.version if stored else 0) + off)
        changes.append(Put(record) if is_put else Remove(record))
    said = await outcome(memory, changes)
    assert await outcome(other, changes) == said
    assert other.inventory == memory.inventory

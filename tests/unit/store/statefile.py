"""What the tests do with a state file: fill it, load it, edit it behind the store's back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from csi.core.inventory import Inventory
from csi.core.model import Gid, RestingGid
from csi.store.schema import CURRENT, Schema
from csi.store.sqlite import SqliteStore
from tests.contract.records import TOPOLOGY, creation, put, volume


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

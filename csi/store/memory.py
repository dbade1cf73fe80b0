"""The store without a disk: for tests, and the measure for what the durable stores must do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Record
from csi.ports import Change
from csi.store import guard


class MemoryStore:
    """Implements ``ports.Store``. What it holds survives ``close`` and ``open``, as a file would."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._inventory = Inventory.of(records)
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True

    @property
    def inventory(self) -> Inventory:
        return self._inventory

    async def commit(self, changes: Sequence[Change]) -> Inventory:
        if not self._is_open:
            raise StateUnusable("the state in memory is not open: open it first")
        self._inventory = guard.advance(self._inventory, changes).after
        return self._inventory

    async def close(self) -> None:
        self._is_open = False

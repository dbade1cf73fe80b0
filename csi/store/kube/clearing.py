"""Operations that are done are removed while their callers go on.

The last write of a commit that ends an operation is the removal of its resource. Nobody needs to wait for it: without
it the state is the one that a crash right before it leaves, from which the next start goes on (``writes.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from csi.core.errors import DriverError
from csi.core.model import Operation
from csi.store.kube.names import Key
from csi.store.kube.writes import Verb, Write
from csi.store.kube.writing import Foreign

_log = structlog.get_logger(__name__)

# Turns of the loop in which those who waited for the commit go on: to prepare and send a request takes the processor
# from them. Turns and not a time: what follows must not depend on the machine (``tests/crash`` counts on its order).
_COURTESY = 12


def parted(writes: tuple[Write, ...]) -> tuple[tuple[Write, ...], Write | None]:
    """What has to be written before anybody is told, and the removal that can follow."""
    last = next((w for w in writes[1:] if w.verb is Verb.REMOVE and isinstance(w.record, Operation)), None)
    return tuple(write for write in writes if write is not last), last


class Clearing:
    """``carry_out`` writes; ``doubt`` is told why the state may not be what the memory holds it to be."""

    def __init__(self, carry_out: Callable[[Write], Awaitable[None]], doubt: Callable[[str], None]) -> None:
        self._carry_out = carry_out
        self._doubt = doubt
        self._under_way: dict[Key, asyncio.Task[None]] = {}

    def begin(self, write: Write) -> None:
        key = write.key
        task = self._under_way[key] = asyncio.create_task(self._clear(write), name=f"clear {write.record.id}")
        task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def settled(self, key: Key) -> None:
        """Returns when nothing is under way to that resource."""
        if (task := self._under_way.get(key)) is not None:
            await asyncio.wait({task})

    async def all_settled(self) -> None:
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()))

    async def close(self, patience: float) -> None:
        """Gives what is under way so many seconds."""
        tasks = set(self._under_way.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _clear(self, write: Write) -> None:
        for _ in range(_COURTESY):
            await asyncio.sleep(0)
        try:
            await self._carry_out(write)
        except Foreign as foreign:
            self._doubt(f"{foreign}, when it was done")
        except DriverError as error:
            self._doubt(f"an operation that is done was not removed ({error})")

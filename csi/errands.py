"""What is done once and ends, beside the services or in their place: for the commands of ``gluster-csi``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from csi import log
from csi.app import api_of, leadership_of, reach, store_of
from csi.config import Settings
from csi.core import topologyfile
from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
from csi.corewiring import wire
from csi.driver import admin
from csi.groups import keeper
from csi.groups.keeper import Finding
from csi.leadership import Leadership
from csi.ports import Put
from csi.service.topology import Progress
from csi.store import archive
from csi.store.kube import snapshot

# Records in one commit of an import: no caller waits too long for one.
_IMPORTED_AT_ONCE = 100


async def load_topology(settings: Settings, file: Path) -> AsyncIterator[Progress]:
    """Through the driver that runs on this machine, or by opening its state if none does."""
    document = await asyncio.to_thread(file.read_bytes)
    if await admin.is_served(settings.endpoint):
        async for progress in admin.load_topology(settings.endpoint, document):
            yield progress
        return
    log.configure("warning", "text")
    async with AsyncExitStack() as stack:
        core = wire(reach(settings, await _alone(settings, stack)), settings)
        await core.outside.store.open()
        stack.push_async_callback(core.outside.store.close)
        stack.push_async_callback(core.outside.runner.close)
        stack.push_async_callback(core.outside.gluster.close)
        async for progress in core.topology.load(topologyfile.parse(document)):
            yield progress


async def export_state(settings: Settings, file: Path) -> int:
    """Write all records to a new file; how many. Custom resources can be exported while controllers run."""
    log.configure("warning", "text")
    if settings.state.backend == "kubernetes":
        async with AsyncExitStack() as stack:
            inventory = Inventory.of((await snapshot.load(api_of(settings, stack))).records)
    else:
        store = store_of(settings, None)
        await store.open()
        inventory = store.inventory
        await store.close()
    await asyncio.to_thread(_write_whole, file, b"".join(archive.write(inventory)))
    return sum(1 for _ in inventory.records())


async def import_state(settings: Settings, file: Path) -> int:
    """Put the records of an exported file into an empty state; how many.

    Raises: StateUnusable if the file is not whole, or the state is not empty.
    """
    log.configure("warning", "text")
    lines = (await asyncio.to_thread(file.read_bytes)).splitlines()
    records = archive.read(lines, str(file))
    async with AsyncExitStack() as stack:
        store = store_of(settings, await _alone(settings, stack))
        await store.open()
        stack.push_async_callback(store.close)
        if next(store.inventory.records(), None) is not None:
            raise StateUnusable("the state holds records already: import into an empty one only")
        for start in range(0, len(records), _IMPORTED_AT_ONCE):
            await store.commit([Put(record) for record in records[start : start + _IMPORTED_AT_ONCE]])
    return len(records)


def _write_whole(file: Path, content: bytes) -> None:
    """A file of that name is always whole."""
    new = file.with_name(file.name + ".new")
    new.touch(mode=0o600)
    with new.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)


async def check_groups(settings: Settings) -> list[Finding]:
    """What is wrong with the groups of volumes and pods. Raises: ApiUnreachable, ListRefused."""
    log.configure("warning", "text")
    async with AsyncExitStack() as stack:
        return await keeper.check(api_of(settings, stack), settings.driver_name)


async def _alone(settings: Settings, stack: AsyncExitStack) -> Leadership | None:
    """For what is done once, beside the services: while it runs, no controller acts.

    Raises: StateUnusable if one does.
    """
    leadership = leadership_of(settings)
    if leadership is not None:
        try:
            async with asyncio.timeout(settings.kubernetes.lease_seconds + 2 * settings.kubernetes.retry_seconds):
                await leadership.lead(stack, asyncio.Event())
        except TimeoutError:
            raise StateUnusable(
                f"lease {settings.kubernetes.lease} is held by a controller that runs: scale the controllers to 0 first"
            ) from None
    return leadership

"""All records at one moment, read from the API server.

Every kind is listed at one and the same version of the store behind the API server, in pages, so the whole is as
consistent as a transaction, also while another controller still writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import structlog

from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
from csi.core.model import Brick, Copy, Device, Host, Record, Volume
from csi.core.model import Snapshot as SnapshotRecord
from csi.kubernetes.api import Answer, Api, ApiUnreachable
from csi.store.guard import held_bricks
from csi.store.kube import resources
from csi.store.kube.kinds import GROUP, KINDS, Kind
from csi.store.kube.names import Key, Names

_log = structlog.get_logger(__name__)

_PAGE = 500
_PAGES = msgspec.json.Decoder(resources.Page)
_RESTORE = "restore the resources with `gluster-csi state import`, or correct this one"

# Too old for the server's memory of versions, or too new for its cache yet: at another try it may pass.
_PASSING = {410, 429, 500, 503, 504}
_TRIES = 5


@dataclass(slots=True)
class Snapshot:
    """``revisions``: the resource version of each record. ``revision``: of the whole, where watches go on from."""

    revision: int
    records: list[Record] = field(default_factory=list)
    revisions: dict[Key, int] = field(default_factory=dict)
    names: Names = field(default_factory=Names)


class Passing(Exception):
    """At another try the server may give the list."""


async def load(api: Api) -> Snapshot:
    """Raises: StateUnusable."""
    trouble = "it gave no consistent list"
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(0.2 * 2**number)
        try:
            return await _load(api)
        except (Passing, ApiUnreachable) as error:
            trouble = str(error)
    raise StateUnusable(f"state in custom resources: {trouble}: see to it that the API server is up and reachable")


async def _load(api: Api) -> Snapshot:
    first = _page(await api.request("GET", KINDS[0].path, {"limit": "1"}), KINDS[0])
    snapshot = Snapshot(int(first.metadata.resourceVersion))
    for kind in KINDS:
        if kind.by_people:
            await _load_named(api, kind, snapshot)
            continue
        async for found in listed(api, kind, snapshot.revision):
            if (record := _read(kind, found)) is not None:
                snapshot.records.append(record)
                snapshot.revisions[type(record), record.id] = found.revision
    return snapshot


async def _load_named(api: Api, kind: Kind, snapshot: Snapshot) -> None:
    """Those that people name: of two that claim to be the same record, the older one is it."""
    found = [resource async for resource in listed(api, kind, snapshot.revision)]
    for resource in sorted(found, key=lambda r: (r.metadata.creationTimestamp, r.metadata.uid)):
        if (record := _read(kind, resource)) is None:
            continue
        key = (type(record), record.id)
        if key in snapshot.revisions:
            others, name = snapshot.names.of(key), resource.metadata.name
            _log.error("passed over, another one is the same record", resource=f"{kind.name}/{name}", other=others)
            continue
        snapshot.records.append(record)
        snapshot.revisions[key] = resource.revision
        snapshot.names.learn(key, resource.metadata.name)


def _read(kind: Kind, found: resources.Resource) -> Record | None:
    try:
        return resources.record(kind, found)
    except ValueError as error:
        raise StateUnusable(f"{kind.name}/{found.metadata.name} cannot be read ({error}): {_RESTORE}") from error


async def listed(api: Api, kind: Kind, revision: int) -> AsyncIterator[resources.Resource]:
    """All resources of a kind as they were at ``revision``. The server makes the next page while this one is read."""
    query = {"limit": str(_PAGE), "resourceVersion": str(revision), "resourceVersionMatch": "Exact"}
    coming = asyncio.create_task(api.request("GET", kind.path, query))
    try:
        while True:
            page = _page(await coming, kind)
            if page.metadata.continue_:
                query = {"limit": str(_PAGE), "continue": page.metadata.continue_}
                coming = asyncio.create_task(api.request("GET", kind.path, query))
                await asyncio.sleep(0)  # it is sent before the items are read
            for found in page.items:
                yield found
            if not page.metadata.continue_:
                return
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def present_revision(api: Api, kind: Kind) -> int:
    return int(_page(await api.request("GET", kind.path, {"limit": "1"}), kind).metadata.resourceVersion)


def check(inventory: Inventory) -> None:
    """Whether everything that is referred to is there. Raises: StateUnusable."""
    for record in inventory.records():
        if (lost := missing(record, inventory)) is not None:
            raise StateUnusable(
                f"{type(record).__name__.lower()} {record.id} refers to {lost}, which is not there: {_RESTORE}"
            )


def missing(record: Record, inventory: Inventory) -> str | None:
    """What the record refers to that is not there, if anything is."""
    match record:
        case Host(cluster_id=cluster) | Volume(cluster_id=cluster) | SnapshotRecord(cluster_id=cluster) if (
            cluster not in inventory.clusters
        ):
            return f"cluster {cluster}"
        case Device(host_id=host) if host not in inventory.hosts:
            return f"host {host}"
        case _:
            lost: list[Brick | Copy] = [b for b in held_bricks(record) if b.device_id not in inventory.devices]
            return f"device {lost[0].device_id}" if lost else None


def _page(answer: Answer, kind: Kind) -> resources.Page:
    if answer.good:
        return _PAGES.decode(answer.body)
    if answer.status in _PASSING:
        raise Passing(answer.reason)
    raise refused(answer, kind)


def refused(answer: Answer, kind: Kind) -> StateUnusable:
    """The error for an answer that another try would not change."""
    match answer.status:
        case 404:
            remedy = f"install the definitions of {GROUP} (deploy/crds)"
        case 401 | 403:
            remedy = f"give the controller's service account all verbs on {kind.plural}.{GROUP} and their status"
        case 422 | 400:
            remedy = "install the definitions (deploy/crds) that belong to this release"
        case _:
            remedy = "see the log of the API server"
    return StateUnusable(f"state in custom resources: {kind.name}: {answer.reason}: {remedy}")

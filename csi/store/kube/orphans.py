"""Resources that appear before what they refer to: a device before its host, a volume before its devices.

Each kind has a watch of its own, and nothing keeps one in step with another. So when somebody writes several resources,
as whoever restores a backup does, they may be seen in any order. They are left aside until they make sense.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import structlog

from csi.core.inventory import Inventory
from csi.core.model import Record
from csi.store.kube import snapshot
from csi.store.kube.kinds import Kind
from csi.store.kube.resources import Resource

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Orphan:
    kind: Kind
    name: str
    resource: Resource
    record: Record


class Orphans:
    def __init__(self) -> None:
        self._waiting: dict[tuple[type[Record], str], Orphan] = {}

    def holds(self, orphan: Orphan, inventory: Inventory) -> bool:
        """Whether this new record has to wait for what it refers to."""
        if (missing := snapshot.missing(orphan.record, inventory)) is None:
            return False
        resource = f"{orphan.kind.name}/{orphan.name}"
        _log.warning("resource is left aside until what it refers to is there", resource=resource, missing=missing)
        self._waiting[orphan.kind.record, orphan.name] = orphan
        return True

    def forget(self, kind: Kind, name: str) -> None:
        """It is gone."""
        self._waiting.pop((kind.record, name), None)

    def keep(self, kind: Kind, names: Set[str]) -> None:
        """These are all that there are of the kind."""
        for key in [(of, name) for of, name in self._waiting if of is kind.record and name not in names]:
            del self._waiting[key]

    def next_whole(self, inventory: Inventory) -> Orphan | None:
        """One that has to wait no longer."""
        for key, orphan in self._waiting.items():
            if snapshot.missing(orphan.record, inventory) is None:
                return self._waiting.pop(key)
        return None

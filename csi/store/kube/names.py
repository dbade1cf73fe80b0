"""Which resource holds a record: the one that has its id as name, or, for what people write, one of another name.

Only those of another name are kept in here, so the map is as small as what people write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from csi.core.model import Record
from csi.store.kube.resources import Resource

Key = tuple[type[Record], str]
"""The kind of a record, and its id."""


@dataclass(frozen=True, slots=True)
class Request:
    """A resource that a person wrote, as it was when it was read, and that is to become a record.

    ``generation`` counts what was asked for; the rest may change in between (``revision``, ``finalizers``).
    """

    name: str
    uid: str
    generation: int
    revision: int
    finalizers: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Resource) -> Request:
        metadata = found.metadata
        return cls(metadata.name, metadata.uid, metadata.generation, found.revision, tuple(metadata.finalizers))

    def at(self, found: Resource) -> Request | None:
        """The same request as it is now; None if another thing is asked for by now."""
        now = Request.of(found)
        return now if (now.uid, now.generation) == (self.uid, self.generation) else None


class Names:
    def __init__(self) -> None:
        self._names: dict[Key, str] = {}
        self._ids: dict[Key, str] = {}  # by kind and name
        self._requests: dict[Key, Request] = {}

    def of(self, key: Key) -> str:
        """The name of the resource that holds the record, or would."""
        return self._names.get(key, key[1])

    def key(self, kind: type[Record], name: str) -> Key | None:
        """The record that a resource of this name holds; None if another resource holds that record."""
        key = (kind, self._ids.get((kind, name), name))
        return key if self.of(key) == name else None

    def learn(self, key: Key, name: str) -> None:
        self.forget(key)
        if name != key[1]:
            self._names[key] = name
            self._ids[key[0], name] = key[1]

    def forget(self, key: Key) -> None:
        """The record has gone."""
        if (name := self._names.pop(key, None)) is not None:
            self._ids.pop((key[0], name), None)

    def request(self, key: Key) -> Request | None:
        """What is to become the record, instead of a new resource."""
        return self._requests.get(key)

    def taking_up(self, key: Key, request: Request) -> AbstractContextManager[None]:
        """As long as it lasts, the record is made out of the request."""

        @contextmanager
        def lasting() -> Iterator[None]:
            self._requests[key] = request
            try:
                yield
            finally:
                if self._requests.get(key) is request:
                    del self._requests[key]

        return lasting()

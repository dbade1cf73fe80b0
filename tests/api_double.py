"""An API server in memory: as much of the real one as the adapters use, held to it by ``tests/contract/test_api.py``.

It knows no schemas, no users and no kinds: whatever path something is put at is fine.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from csi.kubernetes.api import Answer, ApiUnreachable, Body, WatchRefused

Document = dict[str, Any]


@dataclass(slots=True)
class Server:
    """What outlives its clients. ``history``: every state of every object, oldest first; None where it was removed."""

    revision: int = 1
    history: dict[str, list[tuple[int, Document | None]]] = field(default_factory=dict)
    log: list[tuple[int, str, str, Document]] = field(default_factory=list)  # revision, collection, type, object
    compacted: int = 0  # watches and lists of older revisions are refused
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    hangs_up: int = 0  # counted up to end all watches

    def present(self, path: str) -> Document | None:
        states = self.history.get(path)
        return states[-1][1] if states else None

    def at(self, collection: str, revision: int) -> list[Document]:
        found = []
        for path in sorted(self.history):
            if path.rpartition("/")[0] == collection:
                states = [state for at, state in self.history[path] if at <= revision]
                if states and states[-1] is not None:
                    found.append(states[-1])
        return found

    def store(self, path: str, kind: str, document: Document) -> Document:
        self.revision += 1
        document["metadata"]["resourceVersion"] = str(self.revision)
        self.history.setdefault(path, []).append((self.revision, None if kind == "DELETED" else document))
        self.log.append((self.revision, path.rpartition("/")[0], kind, document))
        self.changed.set()
        self.changed = asyncio.Event()
        return document

    def compact(self) -> None:
        self.compacted = self.revision

    def hang_up(self) -> None:
        """End every watch, as a server that is restarted does."""
        self.hangs_up += 1
        self.changed.set()
        self.changed = asyncio.Event()


class ApiDouble:
    """A client of ``server``; implements ``Api``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.away = False

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        await asyncio.sleep(0)
        if self.away:
            raise ApiUnreachable("the double is away")
        status, document = self._act(method, path, query or {}, copy.deepcopy(body))
        return Answer(status, json.dumps(document).encode())

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        server, at = self.server, int(query["resourceVersion"])
        hangs_up = server.hangs_up
        if at < server.compacted:
            raise WatchRefused(Answer(410, b'{"message": "too old resource version"}'))
        position = 0
        while server.hangs_up == hangs_up:
            changed = server.changed
            while position < len(server.log):
                revision, collection, kind, document = server.log[position]
                position += 1
                if revision > at and collection == path:
                    yield json.dumps({"type": kind, "object": document}).encode()
            await changed.wait()

    async def close(self) -> None:
        pass

    def _act(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Document]:
        target = path.removesuffix("/status")
        match method:
            case "POST":
                return self._create(f"{path}/{body['metadata']['name']}", body)
            case "GET" if path.count("/") == _COLLECTION_DEPTH:
                return self._list(path, query)
        present = self.server.present(target)
        if present is None:
            return 404, {"message": f"{target} not found"}
        match method:
            case "GET":
                return 200, present
            case "PATCH":
                return self._patch(target, copy.deepcopy(present), body, of_status=target != path)
            case "DELETE":
                return self._delete(target, copy.deepcopy(present), body or {})
        return 405, {"message": f"{method} is not for {path}"}

    def _create(self, path: str, body: Document) -> tuple[int, Document]:
        if self.server.present(path) is not None:
            return 409, {"message": f"{path} already exists", "reason": "AlreadyExists"}
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body["metadata"] |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": made}
        body.pop("status", None)
        return 201, self.server.store(path, "ADDED", body)

    def _patch(self, path: str, present: Document, patch: list[Document], *, of_status: bool) -> tuple[int, Document]:
        before = copy.deepcopy(present)
        for step in patch:
            if step["path"] == "/metadata/resourceVersion":
                if step["value"] != present["metadata"]["resourceVersion"]:
                    return 409, {"message": "the object has been modified", "reason": "Conflict"}
            else:
                *way, last = step["path"].strip("/").split("/")
                inner = present
                for word in way:
                    inner = inner[word]
                inner[last] = step["value"]
        kept = {name: value for name, value in before.items() if (name == "status") is not of_status}
        changed = {name: value for name, value in present.items() if (name == "status") is of_status}
        present = kept | changed
        if of_status:
            present["metadata"] = before["metadata"]
        if present == before:
            return 200, present
        if present.get("spec") != before.get("spec"):
            present["metadata"] = {**present["metadata"], "generation": before["metadata"]["generation"] + 1}
        metadata = present["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            self.server.store(path, "DELETED", copy.deepcopy(present))
            return 200, present
        return 200, self.server.store(path, "MODIFIED", present)

    def _delete(self, path: str, present: Document, options: Document) -> tuple[int, Document]:
        metadata = present["metadata"]
        wanted = options.get("preconditions", {}).get("resourceVersion")
        if wanted not in (None, metadata["resourceVersion"]):
            return 409, {"message": "the precondition does not hold", "reason": "Conflict"}
        if not metadata.get("finalizers"):
            self.server.store(path, "DELETED", present)
            return 200, {"kind": "Status", "status": "Success"}
        if "deletionTimestamp" in metadata:
            return 200, present
        metadata["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata["generation"] += 1
        return 200, self.server.store(path, "MODIFIED", present)

    def _list(self, path: str, query: Mapping[str, str]) -> tuple[int, Document]:
        start, revision = 0, int(query.get("resourceVersion", self.server.revision))
        if "continue" in query:
            start, revision = json.loads(query["continue"])
        if revision < self.server.compacted:
            return 410, {"message": "the provided resource version is too old"}
        found = self.server.at(path, revision)
        limit = int(query.get("limit", len(found))) or len(found)
        metadata: Document = {"resourceVersion": str(revision)}
        if start + limit < len(found):
            metadata["continue"] = json.dumps([start + limit, revision])
        return 200, {"metadata": metadata, "items": found[start : start + limit]}


_COLLECTION_DEPTH = 4  # of "/apis/GROUP/VERSION/PLURAL"

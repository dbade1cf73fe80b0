"""One write to the API server, carried through to a known outcome.

Every write is conditional: a creation on the name being free, a change and a removal on the resource version. So it may
be sent again when its answer was lost, and a look at the resource tells who came first.

What people write too is changed field by field, so that what they say besides stays; its removal takes two requests:
the deletion, at which it waits for the finalizer, and the one that takes the finalizer off. The second is the removal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from csi.core.model import Record
from csi.kubernetes.api import Answer, Api, ApiUnreachable
from csi.store.kube import resources, snapshot
from csi.store.kube.kinds import FINALIZER, kind_of
from csi.store.kube.names import Request
from csi.store.kube.writes import Verb, Write

_RESOURCES = msgspec.json.Decoder(resources.Resource)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds


class Foreign(Exception):
    """Somebody else changed the resource. ``found``: what it is now; None if it has gone."""

    def __init__(self, record: Record, found: resources.Resource | None) -> None:
        super().__init__(f"{type(record).__name__.lower()} {record.id} was changed by somebody else")
        self.record = record
        self.found = found


class _Later(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Target:
    """The resource that a write is to. ``request``: it is made out of that one; its name and revision are the same."""

    name: str
    revision: int = 0
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The target as it is now, or was when it was removed. Not ``done``: to be sent again to that one."""

    target: Target
    done: bool


class Writer:
    """``permit`` is asked before each request: it raises when this process must not write any more."""

    def __init__(self, api: Api, permit: Callable[[], None]) -> None:
        self._api = api
        self._permit = permit
        self.waiting_for = ""  # why the present write is not through yet
        self.in_doubt = False  # the last write was given up, and may have been carried out

    async def carry_out(self, write: Write, target: Target) -> int:
        """The new resource version on top of the target's; of a removal, the last one. Tries until there is an outcome.

        Raises: Foreign, StateUnusable if the server refuses it for good, and what ``permit`` raises.
        """
        self.in_doubt = False
        pause = _FIRST_PAUSE
        try:
            while True:
                self._permit()
                try:
                    outcome = await self._attempt(write, target)
                except (_Later, ApiUnreachable) as error:
                    self.waiting_for = str(error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                target = outcome.target
                if outcome.done:
                    self.in_doubt = False
                    return target.revision
        finally:
            self.waiting_for = ""

    async def _attempt(self, write: Write, target: Target) -> _Outcome:
        lost = self.in_doubt  # by an earlier try
        self.in_doubt = True
        if write.verb is Verb.REMOVE and kind_of(write.record).by_people:
            answer, target = await self._let_go(write, target)
        else:
            answer = await self._send(write, target)
        if answer.good:
            if write.verb is not Verb.REMOVE:
                target = replace(target, revision=_RESOURCES.decode(answer.body).revision)
            return _Outcome(target, done=True)
        if answer.status < 500:
            self.in_doubt = lost
        # There is no such collection if a creation is answered with 404: a refusal, as by any other error of ours.
        is_made = write.verb is Verb.CREATE and target.request is None
        if answer.status == 409 or (answer.status == 404 and not is_made):
            return await self._compare(write, target)
        raise self._refusal(write, answer)

    async def _send(self, write: Write, target: Target) -> Answer:
        record, path = write.record, self._path(write, target)
        revision: resources.Document = {
            "op": "replace",
            "path": "/metadata/resourceVersion",
            "value": str(target.revision),
        }
        match write.verb:
            case Verb.CREATE if target.request is not None:
                held = [name for name in target.request.finalizers if name != FINALIZER] + [FINALIZER]
                finalizers = {"op": "add", "path": "/metadata/finalizers", "value": held}
                return await self._api.request("PATCH", path, None, [revision, finalizers, *_fields(record)])
            case Verb.CREATE:
                whole = resources.resource(record, target.name)
                return await self._api.request("POST", kind_of(record).path, None, whole)
            case Verb.REPLACE:
                # Only ``spec``: labels, annotations and finalizers belong to those who set them.
                spec: list[resources.Document] = (
                    _fields(record)
                    if kind_of(record).by_people
                    else [{"op": "replace", "path": "/spec", "value": resources.spec(record)}]
                )
                return await self._api.request("PATCH", path, None, [revision, *spec])
            case Verb.REMOVE:
                options = {"preconditions": {"resourceVersion": str(target.revision)}}
                return await self._api.request("DELETE", path, None, options)

    async def _let_go(self, write: Write, target: Target) -> tuple[Answer, Target]:
        """The last answer, and the target as it was before that."""
        answer = await self._send(write, target)
        if not answer.good or b'"deletionTimestamp"' not in answer.body:
            return answer, target
        left = _RESOURCES.decode(answer.body)
        target = replace(target, revision=left.revision)
        if left.is_let_go:
            return answer, target
        self._permit()
        others = [name for name in left.metadata.finalizers if name != FINALIZER]
        patch: list[resources.Document] = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": left.metadata.resourceVersion},
            {"op": "replace", "path": "/metadata/finalizers", "value": others},
        ]
        return await self._api.request("PATCH", self._path(write, target), None, patch), target

    async def _compare(self, write: Write, target: Target) -> _Outcome:
        """The write was refused since the resource is not as it was: by us, or by somebody else?"""
        answer = await self._api.request("GET", self._path(write, target))
        if answer.status == 404:
            if write.verb is Verb.REMOVE and self.in_doubt:
                return _Outcome(target, done=True)
            if write.verb is Verb.CREATE and target.request is None:
                return _Outcome(replace(target, revision=0), done=False)
            raise Foreign(write.record, None)
        if not answer.good:
            raise self._refusal(write, answer)
        found = _RESOURCES.decode(answer.body)
        try:
            present = resources.record(kind_of(write.record), found)
        except ValueError:
            present = None
        now = replace(target, revision=found.revision)
        if write.verb is Verb.REMOVE and found.is_let_go and self.in_doubt and kind_of(write.record).by_people:
            return _Outcome(now, done=True)
        if write.verb is not Verb.REMOVE and present == write.record:
            return _Outcome(now, done=True)
        if write.before is not None and present is not None and _says(present, write.before):
            # Its status or its labels changed, nothing of ours.
            return _Outcome(now, done=False)
        if target.request is not None and present is None and (request := target.request.at(found)) is not None:
            return _Outcome(replace(now, request=request), done=False)
        raise Foreign(write.record, found)

    @staticmethod
    def _path(write: Write, target: Target) -> str:
        return f"{kind_of(write.record).path}/{target.name}"

    def _refusal(self, write: Write, answer: Answer) -> Exception:
        if answer.status == 429 or answer.status >= 500:
            return _Later(answer.reason)
        return snapshot.refused(answer, kind_of(write.record))


def _says(present: Record, before: Record) -> bool:
    """Who edits a resource does not count its version up; the memory does, so that older commits are stale."""
    if kind_of(before).by_people and present.version < before.version:
        present = replace(present, version=before.version)
    return present == before


def _fields(record: Record) -> list[resources.Document]:
    """Each field of the record, whatever else is in ``spec``."""
    return [{"op": "add", "path": f"/spec/{name}", "value": value} for name, value in resources.spec(record).items()]

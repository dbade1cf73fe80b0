"""One write to the API server, carried through to a known outcome.

Every write is conditional: a creation on the name being free, a change and a removal on the resource version. So it may
be sent again when its answer was lost, and a look at the resource tells who came first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from csi.core.model import Record
from csi.kubernetes.api import Answer, Api, ApiUnreachable
from csi.store.kube import resources, snapshot
from csi.store.kube.kinds import kind_of, path_of
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
class _Outcome:
    """``revision``: as it is now, or was when it was removed. Not ``done``: to be sent again on that revision."""

    revision: int
    done: bool


class Writer:
    """``permit`` is asked before each request: it raises when this process must not write any more."""

    def __init__(self, api: Api, permit: Callable[[], None]) -> None:
        self._api = api
        self._permit = permit
        self.waiting_for = ""  # why the present write is not through yet
        self.in_doubt = False  # the last write was given up, and may have been carried out

    async def carry_out(self, write: Write, revision: int) -> int:
        """The new resource version on top of ``revision``; of a removal, the last one. Tries until there is an outcome.

        Raises: Foreign, StateUnusable if the server refuses it for good, and what ``permit`` raises.
        """
        self.in_doubt = False
        pause = _FIRST_PAUSE
        try:
            while True:
                self._permit()
                try:
                    outcome = await self._attempt(write, revision)
                except (_Later, ApiUnreachable) as error:
                    self.waiting_for = str(error)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                if outcome.done:
                    self.in_doubt = False
                    return outcome.revision
                revision = outcome.revision
        finally:
            self.waiting_for = ""

    async def _attempt(self, write: Write, revision: int) -> _Outcome:
        lost = self.in_doubt  # by an earlier try
        self.in_doubt = True
        answer = await self._send(write, revision)
        if answer.good:
            last = revision if write.verb is Verb.REMOVE else _RESOURCES.decode(answer.body).revision
            return _Outcome(last, done=True)
        if answer.status < 500:
            self.in_doubt = lost
        # There is no such collection if a creation is answered with 404: a refusal, as by any other error of ours.
        if answer.status == 409 or (answer.status == 404 and write.verb is not Verb.CREATE):
            return await self._compare(write, revision)
        raise self._refusal(write, answer)

    async def _send(self, write: Write, revision: int) -> Answer:
        record = write.record
        match write.verb:
            case Verb.CREATE:
                return await self._api.request("POST", kind_of(record).path, None, resources.resource(record))
            case Verb.REPLACE:
                # Only ``spec``: labels, annotations and finalizers belong to those who set them.
                patch: list[resources.Document] = [
                    {"op": "replace", "path": "/metadata/resourceVersion", "value": str(revision)},
                    {"op": "replace", "path": "/spec", "value": resources.spec(record)},
                ]
                return await self._api.request("PATCH", path_of(record), None, patch)
            case Verb.REMOVE:
                options = {"preconditions": {"resourceVersion": str(revision)}}
                return await self._api.request("DELETE", path_of(record), None, options)

    async def _compare(self, write: Write, revision: int) -> _Outcome:
        """The write was refused since the resource is not as it was: by us, or by somebody else?"""
        answer = await self._api.request("GET", path_of(write.record))
        if answer.status == 404:
            if write.verb is Verb.REMOVE and self.in_doubt:
                return _Outcome(revision, done=True)
            if write.verb is Verb.CREATE:
                return _Outcome(0, done=False)
            raise Foreign(write.record, None)
        if not answer.good:
            raise self._refusal(write, answer)
        found = _RESOURCES.decode(answer.body)
        try:
            present = resources.record(kind_of(write.record), found)
        except ValueError:
            present = None
        if write.verb is not Verb.REMOVE and present == write.record:
            return _Outcome(found.revision, done=True)
        if write.before is not None and present == write.before:
            # Its status or its labels changed, nothing of ours.
            return _Outcome(found.revision, done=False)
        raise Foreign(write.record, found)

    def _refusal(self, write: Write, answer: Answer) -> Exception:
        if answer.status == 429 or answer.status >= 500:
            return _Later(answer.reason)
        return snapshot.refused(answer, kind_of(write.record))

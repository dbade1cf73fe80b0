"""The Lease by which one of several controllers acts, and how it knows for how long it may.

Nobody's clock is compared with another's. A standby takes the Lease over when it has seen it unchanged for the time
that the Lease names (``lease_seconds``), by its own clock. The holder counts from before it sent its last renewal, and
only ``renew_seconds``: so it has stopped acting for the difference of the two before anybody else begins, also after it
was paused, since the clock that it asks goes on meanwhile, even in a suspended machine.

``term`` counts the holders. It grows with each change of hands, is written into the journal and obeyed by the hosts
(``hosts/mandate.py``). A Lease that was deleted counts from 1 again: its holder learns from the hosts which term they
obey, has the Lease count on from there, and makes way for the next holder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from csi.core.errors import StateUnusable, Unavailable
from csi.kubernetes.api import Answer, Api, ApiUnreachable, Document

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. ``lease`` > ``renew`` > ``retry``."""

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class _Metadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - here and below the name is the API's


class _Spec(msgspec.Struct):
    holderIdentity: str | None = None  # noqa: N815
    leaseDurationSeconds: int | None = None  # noqa: N815
    leaseTransitions: int | None = None  # noqa: N815
    renewTime: str | None = None  # noqa: N815


class _Lease(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


_LEASES = msgspec.json.Decoder(_Lease)


def _since_boot() -> float:
    """Seconds. ``time.monotonic`` stands still in a suspended machine, whose Lease is taken over meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """``identity``: of this process, like no other's that ever was."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: LeaseTiming,
        monotonic: Callable[[], float] = _since_boot,
    ) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._timing = timing
        self._monotonic = monotonic
        self._valid_until = float("-inf")
        self._revision = ""
        self._seen = ("", 0.0)  # the revision that somebody else holds, and when it was first seen
        self.term = 0
        self.holder = ""
        self.lost = asyncio.Event()
        self._obeyed = 0  # the term of the hosts, where it is higher
        self.outdone = asyncio.Event()

    def outdo(self, term: int) -> None:
        """Hosts obey somebody else, of this term. ``outdone`` is set when the Lease counts on from there: then end.

        Only he who has the Lease can bring it about, so it is no way for one who lost it.
        """
        if term >= self.term and term > self._obeyed:
            self._obeyed = term
            _log.error("hosts obey another controller", lease=self._name, term=self.term, obeyed=term)

    @property
    def remaining(self) -> float:
        """Seconds for which this process may act without another renewal; 0 if it may not."""
        return max(0.0, self._valid_until - self._monotonic())

    def permit(self) -> None:
        """Raises: Unavailable if this process may not act (any more)."""
        if self._monotonic() >= self._valid_until:
            raise Unavailable(
                f"this controller does not lead: lease {self._name} is held by {self.holder or 'nobody'}; "
                "ask again, the controller that leads answers"
            )

    async def acquire(self) -> None:
        """Wait until this process leads. Raises: StateUnusable if the server refuses for good."""
        while not await self._try_to_acquire():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(self._timing.retry)
        _log.info("leading", lease=self._name, term=self.term, identity=self._identity)

    async def hold(self) -> None:
        """Renew until the Lease is lost; then set ``lost`` and return. Cancel it to stop renewing."""
        while self.remaining:
            await asyncio.sleep(min(self._timing.retry, self.remaining))
            try:
                async with asyncio.timeout(self.remaining):
                    if not await self._renew():
                        break
            except (ApiUnreachable, TimeoutError) as error:
                _log.warning("lease not renewed", lease=self._name, remaining=self.remaining, error=str(error))
            except StateUnusable as error:  # it was deleted, for one
                _log.error("lease cannot be renewed", lease=self._name, error=str(error))
                break
        self._valid_until = float("-inf")
        _log.error("lease lost", lease=self._name, term=self.term, holder=self.holder)
        self.lost.set()

    async def release(self) -> None:
        """Let another controller begin at once. Call it when nothing is under way any more."""
        if not self.remaining:
            return
        self._valid_until = float("-inf")
        try:
            await self._write({"holderIdentity": "", "leaseDurationSeconds": 1})
        except (ApiUnreachable, StateUnusable, _Later) as error:
            _log.warning("lease not released", lease=self._name, error=str(error))

    # --- the steps ----------------------------------------------------------------------------

    async def _try_to_acquire(self) -> bool:
        began = self._monotonic()
        try:
            answer = await self._api.request("GET", self._path)
            if answer.status == 404:
                return self._take(await self._make(), began)
            found = _LEASES.decode(self._good(answer).body)
        except (ApiUnreachable, _Later) as error:
            _log.warning("lease not read", lease=self._name, error=str(error))
            return False
        self.holder = found.spec.holderIdentity or ""
        if self.holder and self.holder != self._identity and not self._is_over(found):
            return False
        self._revision = found.metadata.resourceVersion
        transitions = (found.spec.leaseTransitions or 0) + 1
        try:
            taken = await self._write({**self._held(), "acquireTime": _now(), "leaseTransitions": transitions})
        except (ApiUnreachable, _Later):
            return False
        return self._take(taken, began)

    def _is_over(self, found: _Lease) -> bool:
        """Whether it was seen unchanged for as long as it says that it lasts."""
        revision, since = self._seen
        if found.metadata.resourceVersion != revision:
            self._seen = (found.metadata.resourceVersion, self._monotonic())
            return False
        return self._monotonic() - since > (found.spec.leaseDurationSeconds or self._timing.lease)

    async def _renew(self) -> bool:
        """False if somebody else has it."""
        began = self._monotonic()
        obeyed = self._obeyed
        fields = {**self._held(), **({"leaseTransitions": obeyed} if obeyed else {})}
        try:
            if self._take(await self._write(fields), began):
                if obeyed:
                    self.outdone.set()
                return True
            # The last renewal may have been carried out though its answer was lost.
            found = _LEASES.decode(self._good(await self._api.request("GET", self._path)).body)
        except _Later as error:
            raise ApiUnreachable(str(error)) from error
        self.holder = found.spec.holderIdentity or ""
        self._revision = found.metadata.resourceVersion
        return self.holder == self._identity

    def _take(self, written: _Lease | None, began: float) -> bool:
        if written is None:
            return False
        self._revision = written.metadata.resourceVersion
        # Not that of a renewal: a process has one term, and sessions that were opened under it.
        self.term = self.term or written.spec.leaseTransitions or 0
        self.holder = self._identity
        self._valid_until = began + self._timing.renew
        return True

    async def _make(self) -> _Lease | None:
        body: Document = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {**self._held(), "acquireTime": _now(), "leaseTransitions": 1},
        }
        answer = await self._api.request("POST", self._collection, None, body)
        return None if answer.status == 409 else _LEASES.decode(self._good(answer).body)

    async def _write(self, fields: dict[str, Any]) -> _Lease | None:
        """None if it is not as it was read."""
        patch: list[Document] = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": self._revision},
            *({"op": "add", "path": f"/spec/{name}", "value": value} for name, value in fields.items()),
        ]
        answer = await self._api.request("PATCH", self._path, None, patch)
        return None if answer.status in (404, 409) else _LEASES.decode(self._good(answer).body)

    def _held(self) -> dict[str, Any]:
        lasts = max(1, round(self._timing.lease))
        return {"holderIdentity": self._identity, "leaseDurationSeconds": lasts, "renewTime": _now()}

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self._name}"

    def _good(self, answer: Answer) -> Answer:
        if answer.good:
            return answer
        if answer.status == 429 or answer.status >= 500:
            raise _Later(answer.reason)
        raise StateUnusable(
            f"lease {self._name}: {answer.reason}: give the controller's service account get, create and patch on "
            "leases in its namespace, and see to it that kubernetes.namespace exists"
        )


class _Later(Exception):
    pass


def _now() -> str:
    """For people; nothing is computed from it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

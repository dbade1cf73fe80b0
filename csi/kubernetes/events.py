"""Events: what ``kubectl describe`` shows at the end, and the one place where the owner of a pod or claim looks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from csi.kubernetes.api import Api, ApiUnreachable, Document

_log = structlog.get_logger(__name__)

_LONGEST_MESSAGE = 1024  # bytes; the API server refuses more


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an event is about. ``namespace`` empty: it is in none, and its events are in ``default``."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""
    api_version: str = "v1"


class ClaimEvents:
    """Implements ``ports.ClaimNotices``."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def tell(self, namespace: str, claim: str, uid: str, reason: str, message: str) -> None:
        subject = Subject("PersistentVolumeClaim", claim, namespace, uid)
        await self._events.tell(subject, reason, message, warning=False)


class Events:
    """``component`` is who tells. Telling the same of a subject again within the life of an event does nothing."""

    def __init__(self, api: Api, component: str) -> None:
        self._api = api
        self._component = component

    async def tell(self, subject: Subject, reason: str, message: str, *, warning: bool = True) -> None:
        """Never raises: what it is about has happened anyway. What could not be told is logged."""
        namespace = subject.namespace or "default"
        document = self._document(subject, namespace, reason, message, "Warning" if warning else "Normal")
        try:
            answer = await self._api.request("POST", f"/api/v1/namespaces/{namespace}/events", None, document)
        except ApiUnreachable as error:
            problem = str(error)
        else:
            if answer.good or answer.status == 409:
                return
            problem = answer.reason
        _log.warning("event not told", kind=subject.kind, name=subject.name, message=message, problem=problem)

    def _document(self, subject: Subject, namespace: str, reason: str, message: str, kind: str) -> Document:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = hashlib.sha256(f"{subject.uid}\0{reason}\0{message}".encode()).hexdigest()[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{subject.name}.{said}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "name": subject.name,
                **({"namespace": subject.namespace} if subject.namespace else {}),
                **({"uid": subject.uid} if subject.uid else {}),
            },
            "type": kind,
            "reason": reason,
            "message": message.encode()[:_LONGEST_MESSAGE].decode(errors="ignore"),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }

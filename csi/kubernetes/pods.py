"""Notices to the owners of pods, as events of the pods."""

from __future__ import annotations

import msgspec
import structlog

from csi.core.errors import DriverError
from csi.kubernetes.api import Api
from csi.kubernetes.events import Events, Subject
from csi.kubernetes.following import listed
from csi.nodeports import Notice

_log = structlog.get_logger(__name__)


class _Metadata(msgspec.Struct):
    name: str
    namespace: str
    uid: str


class _Pod(msgspec.Struct):
    metadata: _Metadata


_PODS = msgspec.json.Decoder(_Pod)


class PodNotices:
    """Implements ``nodeports.Notices`` for the pods of a node."""

    def __init__(self, api: Api, events: Events, node: str) -> None:
        self._api = api
        self._events = events
        self._node = node

    async def tell(self, notice: Notice) -> None:
        _log.warning(notice.text, kind=notice.kind.value, volume=notice.volume_id, path=notice.path, pod=notice.pod)
        try:
            found = await self._find(notice.pod) if notice.pod else None
        except (DriverError, msgspec.MsgspecError) as error:
            _log.warning("pod can't be told", pod=notice.pod, error=str(error))
            return
        if found is not None:
            await self._events.tell(
                Subject("Pod", found.name, found.namespace, found.uid), notice.kind.value, notice.text
            )

    async def _find(self, uid: str) -> _Metadata | None:
        documents, _ = await listed(self._api, "/api/v1/pods", {"fieldSelector": f"spec.nodeName={self._node}"})
        pods = (_PODS.decode(document).metadata for document in documents)
        return next((pod for pod in pods if pod.uid == uid), None)

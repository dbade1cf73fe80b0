"""Whether a pod that has just been given a volume also gets its group: explained while its owner is looking."""

from __future__ import annotations

import posixpath

import msgspec
import structlog

from csi.core import podpaths
from csi.groups.objects import ANNOTATION, PersistentVolume
from csi.kubernetes.api import Api, ApiUnreachable
from csi.nodeports import Notice, NoticeKind, Notices

_log = structlog.get_logger(__name__)

_DECODER = msgspec.json.Decoder(PersistentVolume)


class GroupExplainer:
    """Implements ``nodeports.Publications``."""

    def __init__(self, api: Api, notices: Notices) -> None:
        self._api = api
        self._notices = notices

    async def published(self, volume_id: str, target: str, gid: int) -> None:
        # The kubelet's path: .../volumes/kubernetes.io~csi/NAME-OF-THE-PERSISTENTVOLUME/mount
        name = posixpath.basename(posixpath.dirname(target))
        pod = podpaths.pod_of(target)
        if not (gid and pod and name):
            return
        try:
            answer = await self._api.request("GET", f"/api/v1/persistentvolumes/{name}")
            if not answer.good:
                _log.warning("group of a volume can't be checked", volume=name, error=answer.reason)
                return
            present = _DECODER.decode(answer.body).metadata.annotations.get(ANNOTATION, "")
        except (ApiUnreachable, msgspec.MsgspecError) as error:
            _log.warning("group of a volume can't be checked", volume=name, error=str(error))
            return
        if present != str(gid):
            text = (
                f"PersistentVolume {name} {'names group ' + present if present else 'does not name its group'} in "
                f"annotation {ANNOTATION}; its files belong to group {gid}, which this pod does not get: only root may "
                f"write. kubectl annotate --overwrite pv/{name} {ANNOTATION}={gid}, then delete the pods that use it"
            )
            await self._notices.tell(Notice(NoticeKind.GROUP_MISSING, volume_id, target, pod, text))

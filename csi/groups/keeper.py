"""Sees to it that PersistentVolumes have their annotation, and finds the pods that started before they had it.

The annotation is best there at creation, by the MutatingAdmissionPolicy of the chart. Where there is none (Kubernetes
before 1.34), it is added here a moment later; a kubelet may have met the volume by then, and no longer looks at it
until the last pod of the volume has left its node. So pods are looked at too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
import structlog

from csi.groups.objects import ANNOTATION, Claim, PersistentVolume, Pod, lacks
from csi.kubernetes.api import Api, ApiUnreachable, Body
from csi.kubernetes.events import Events, Subject
from csi.kubernetes.following import follow, listed

_log = structlog.get_logger(__name__)

_VOLUMES = "/api/v1/persistentvolumes"
_PODS = "/api/v1/pods"
_RUNNING = {"fieldSelector": "status.phase=Running"}

_VOLUME_DECODER = msgspec.json.Decoder(PersistentVolume)
_POD_DECODER = msgspec.json.Decoder(Pod)


class GroupKeeper:
    """Of the volumes of ``driver``."""

    def __init__(self, api: Api, events: Events, driver: str) -> None:
        self._api = api
        self._events = events
        self._driver = driver
        self._groups: dict[Claim, int] = {}
        self._claims: dict[str, Claim] = {}  # by name of the PersistentVolume
        self._pods: dict[Claim, dict[str, Pod]] = {}  # that run and have a claim, by UID
        self._told: set[str] = set()  # UIDs of pods

    async def run(self) -> None:
        """For ever; cancel it to end it."""
        await asyncio.gather(self._follow_volumes(), self._follow_pods())

    async def _follow_volumes(self) -> None:
        async for found in follow(self._api, _VOLUMES):
            volume = _VOLUME_DECODER.decode(found.document)
            gid = volume.group(self._driver)
            if found.gone or gid is None:
                self._groups.pop(self._claims.pop(volume.metadata.name, ("", "")), None)
                continue
            if volume.claim is not None:
                self._claims[volume.metadata.name] = volume.claim
                self._groups[volume.claim] = gid
                for pod in tuple(self._pods.get(volume.claim, {}).values()):
                    await self._look_at(pod)
            if volume.metadata.annotations.get(ANNOTATION) != str(gid):
                await self._annotate(volume, gid)

    async def _annotate(self, volume: PersistentVolume, gid: int) -> None:
        """What fails is tried again when the volume changes or the watch begins anew."""
        metadata = volume.metadata
        whole = {"path": "/metadata/annotations", "value": {ANNOTATION: str(gid)}}
        one = {"path": f"/metadata/annotations/{ANNOTATION.replace('/', '~1')}", "value": str(gid)}
        patch: Body = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resourceVersion},
            {"op": "add", **(one if metadata.annotations else whole)},
        ]
        try:
            answer = await self._api.request("PATCH", f"{_VOLUMES}/{metadata.name}", None, patch)
        except ApiUnreachable as error:
            _log.warning("group not annotated", volume=metadata.name, gid=gid, error=str(error))
            return
        if answer.good:
            _log.info("group annotated", volume=metadata.name, gid=gid)
        else:
            _log.warning("group not annotated", volume=metadata.name, gid=gid, error=answer.reason)

    async def _follow_pods(self) -> None:
        async for found in follow(self._api, _PODS, _RUNNING):
            pod = _POD_DECODER.decode(found.document)
            uid = pod.metadata.uid
            for claim in pod.claims:
                if not found.gone:
                    self._pods.setdefault(claim, {})[uid] = pod
                elif (pods := self._pods.get(claim)) is not None:
                    pods.pop(uid, None)
                    if not pods:
                        del self._pods[claim]
            if found.gone:
                self._told.discard(uid)
            else:
                await self._look_at(pod)

    async def _look_at(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        if uid not in self._told and (lacking := lacks(pod, self._groups)):
            self._told.add(uid)
            subject = Subject("Pod", pod.metadata.name, pod.metadata.namespace, uid)
            await self._events.tell(subject, "VolumeGroupMissing", str(lacking[0]))


@dataclass(frozen=True, slots=True)
class Finding:
    """``subject`` as kubectl names it."""

    subject: str
    problem: str


async def check(api: Api, driver: str) -> list[Finding]:
    """What is wrong with the groups of all volumes of ``driver`` now. Raises: ApiUnreachable, ListRefused."""
    volumes = [_VOLUME_DECODER.decode(document) for document in (await listed(api, _VOLUMES))[0]]
    found, groups = [], {}
    for volume in volumes:
        if (gid := volume.group(driver)) is None:
            continue
        if volume.claim is not None:
            groups[volume.claim] = gid
        if (present := volume.metadata.annotations.get(ANNOTATION, "")) != str(gid):
            says = f"says {present}" if present else "is missing"
            found.append(
                Finding(
                    f"pv/{volume.metadata.name}",
                    f"annotation {ANNOTATION} {says}, its volume has group {gid}: is the MutatingAdmissionPolicy "
                    f"installed? kubectl annotate --overwrite pv/{volume.metadata.name} {ANNOTATION}={gid}",
                )
            )
    for document in (await listed(api, _PODS, _RUNNING))[0]:
        pod = _POD_DECODER.decode(document)
        name = f"pod/{pod.metadata.name} in namespace {pod.metadata.namespace}"
        found += [Finding(name, str(lack)) for lack in lacks(pod, groups)]
    return found

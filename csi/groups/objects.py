"""The parts of PersistentVolumes and pods that tell of groups, and what follows from them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

ANNOTATION = "pv.beta.kubernetes.io/gid"
"""The kubelet gives a pod the group that is named here, when it first meets the volume on its node."""

ATTRIBUTE = "gid"  # of the volume context, and so of the PersistentVolume's volumeAttributes

Claim = tuple[str, str]  # namespace and name of a PersistentVolumeClaim


class Metadata(msgspec.Struct):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815 - here and below the name is the wire's
    annotations: dict[str, str] = {}


class _Csi(msgspec.Struct):
    driver: str
    volumeAttributes: dict[str, str] = {}  # noqa: N815


class _ClaimRef(msgspec.Struct):
    namespace: str = ""
    name: str = ""


class _VolumeSpec(msgspec.Struct):
    csi: _Csi | None = None
    claimRef: _ClaimRef | None = None  # noqa: N815


class PersistentVolume(msgspec.Struct):
    metadata: Metadata
    spec: _VolumeSpec

    def group(self, driver: str) -> int | None:
        """The GID of its Gluster volume; None for a volume of another driver, or one that has no GID."""
        csi = self.spec.csi
        gid = csi.volumeAttributes.get(ATTRIBUTE, "") if csi is not None and csi.driver == driver else ""
        return int(gid) if gid.isascii() and gid.isdecimal() else None

    @property
    def claim(self) -> Claim | None:
        bound = self.spec.claimRef
        return (bound.namespace, bound.name) if bound is not None else None


class _ClaimSource(msgspec.Struct):
    claimName: str  # noqa: N815


class _PodVolume(msgspec.Struct):
    name: str
    persistentVolumeClaim: _ClaimSource | None = None  # noqa: N815
    ephemeral: dict[str, object] | None = None


class _PodSpec(msgspec.Struct):
    volumes: list[_PodVolume] = []


class _LinuxUser(msgspec.Struct):
    uid: int = 0
    gid: int = 0
    supplementalGroups: list[int] = []  # noqa: N815


class _User(msgspec.Struct):
    linux: _LinuxUser | None = None


class _ContainerStatus(msgspec.Struct):
    name: str
    user: _User | None = None


class _PodStatus(msgspec.Struct):
    phase: str = ""
    containerStatuses: list[_ContainerStatus] = []  # noqa: N815


class Pod(msgspec.Struct):
    metadata: Metadata
    spec: _PodSpec
    status: _PodStatus

    @property
    def claims(self) -> Iterator[Claim]:
        for volume in self.spec.volumes:
            if volume.persistentVolumeClaim is not None:
                yield self.metadata.namespace, volume.persistentVolumeClaim.claimName
            elif volume.ephemeral is not None:
                yield self.metadata.namespace, f"{self.metadata.name}-{volume.name}"


@dataclass(frozen=True, slots=True)
class Lack:
    """A container runs without the group of a volume that its pod has. ``claim`` is the name of the volume's claim."""

    container: str
    claim: str
    gid: int

    def __str__(self) -> str:
        return (
            f"container {self.container} runs without group {self.gid} of the volume of claim {self.claim}, so it may "
            f"not write there: the pod was started before the PersistentVolume had its annotation {ANNOTATION}; "
            "delete the pod, its successor gets the group"
        )


def lacks(pod: Pod, groups: Mapping[Claim, int]) -> list[Lack]:
    """What the container runtime says of the groups that the processes have (Kubernetes 1.31 and newer).

    Root is left out: it may write anyway. A pod that does not run, and one of which nothing is said, lacks nothing.
    """
    if pod.status.phase != "Running":
        return []
    found = []
    for claim in pod.claims:
        if (gid := groups.get(claim)) is None:
            continue
        for container in pod.status.containerStatuses:
            user = container.user.linux if container.user is not None else None
            if user is not None and user.uid and gid not in (user.gid, *user.supplementalGroups):
                found.append(Lack(container.name, claim[1], gid))
    return found

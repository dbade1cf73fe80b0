"""Resources as people write them, and the records that they ask for. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from csi.core import naming, tags, topologyfile
from csi.core.errors import InvalidRequest
from csi.core.model import Availability, Backend, Cluster, ClusterId, Device, Host, HostId
from csi.store.kube.kinds import FINALIZER
from csi.store.kube.names import Request
from csi.store.kube.resources import Metadata


class Spec(msgspec.Struct):
    """Of all three kinds. ``version`` 0: it is no record yet."""

    version: int = 0
    id: str = ""
    state: Availability = Availability.ONLINE
    tags: dict[str, str] = {}
    # of a host
    cluster: str = ""
    clusterId: str = ""  # noqa: N815 - here and below the name is the API's
    manage: str = ""
    storage: str = ""
    zone: int = 0
    # of a device
    host: str = ""
    hostId: str = ""  # noqa: N815
    path: str = ""
    backend: Backend | None = None
    total: int = 0
    destroyData: bool = False  # noqa: N815


class Manifest(msgspec.Struct):
    metadata: Metadata
    spec: Spec = msgspec.field(default_factory=Spec)

    @property
    def is_recorded(self) -> bool:
        return self.spec.version > 0

    @property
    def is_deleted(self) -> bool:
        """Somebody asked for its deletion."""
        return bool(self.metadata.deletionTimestamp)

    @property
    def is_held(self) -> bool:
        """By our finalizer."""
        return FINALIZER in self.metadata.finalizers

    @property
    def request(self) -> Request:
        metadata = self.metadata
        finalizers = tuple(metadata.finalizers)
        return Request(metadata.name, metadata.uid, metadata.generation, int(metadata.resourceVersion), finalizers)


_DECODER = msgspec.json.Decoder(Manifest)


def read(document: bytes) -> Manifest:
    """Raises: ValueError."""
    try:
        return _DECODER.decode(document)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def cluster_of(name: str) -> Cluster:
    """The id comes from the name, so that bricks of a cluster that is applied anew still know it."""
    return Cluster(naming.cluster_id(name))


def host_of(spec: Spec, cluster: ClusterId) -> Host:
    """Raises: InvalidRequest."""
    if not topologyfile.is_target(spec.manage):
        raise InvalidRequest("manage", spec.manage, "a host name or an IP address, perhaps with :PORT")
    if not topologyfile.is_host(spec.storage):
        raise InvalidRequest("storage", spec.storage, "a host name or an IP address")
    if not 1 <= spec.zone <= topologyfile.LAST_ZONE:
        raise InvalidRequest("zone", spec.zone, f"a number from 1 to {topologyfile.LAST_ZONE}")
    _check_tags(spec.tags)
    host_id = naming.host_id(spec.manage)
    return Host(host_id, cluster, spec.manage, spec.storage, spec.zone, spec.state, spec.tags)


def device_of(spec: Spec, host: HostId) -> Device:
    """``total`` 0: to be measured. Raises: InvalidRequest."""
    if not topologyfile.is_device(spec.path):
        raise InvalidRequest(
            "path", spec.path, "an absolute path of letters, digits and _ . : - / (no '..', '//' or last '/')"
        )
    _check_tags(spec.tags)
    return Device(
        id=naming.device_id(host, spec.path),
        host_id=host,
        path=spec.path,
        backend=spec.backend or topologyfile.backend_of(spec.path),
        total=spec.total,
        state=spec.state,
        tags=spec.tags,
    )


def _check_tags(given: Mapping[str, Any]) -> None:
    if len(given) > tags.MOST_TAGS:
        raise InvalidRequest("tags", f"{len(given)} tags", f"at most {tags.MOST_TAGS}")
    for name, value in given.items():
        if not tags.is_name(name):
            raise InvalidRequest("tags", name, f"a name of {tags.NAME_ALLOWED}")
        if not tags.is_value(value):
            raise InvalidRequest(f"tags.{name}", value, tags.VALUE_ALLOWED)

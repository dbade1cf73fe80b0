"""A resource that a person wrote becomes a record: the same calls as for an entry of the topology file."""

from __future__ import annotations

from typing import TypeVar

from csi.core.errors import InUse, Unavailable
from csi.core.inventory import Inventory
from csi.core.model import Cluster, ClusterId, Device, Host, HostId, Record
from csi.manifests import written
from csi.manifests.written import Manifest
from csi.service.topology import Topology
from csi.store.kube import KubeStore
from csi.store.kube.kinds import BY_RECORD

_Named = TypeVar("_Named", Cluster, Host)


class Unresolved(Unavailable):
    """What it refers to is no record, or not yet."""


class Taken(InUse):
    """Another resource is that record already."""


class Admission:
    """Steps may be repeated after any interruption: nothing is recorded before all of them are done."""

    def __init__(self, store: KubeStore, topology: Topology) -> None:
        self._store = store
        self._topology = topology

    @property
    def _inventory(self) -> Inventory:
        return self._store.inventory

    def record(self, kind: type[Record], manifest: Manifest) -> Cluster | Host | Device:
        """What is asked for. Raises: InvalidRequest, Unresolved, Taken."""
        asked = self._record(kind, manifest)
        if self._inventory.find(asked) is not None:
            holder = f"{BY_RECORD[kind].name} {self._store.name_of(kind, asked.id)!r}"
            raise Taken(f"{_told(asked)} is recorded as {holder} already: change that one, and delete this")
        return asked

    async def admit(self, record: Cluster | Host | Device, manifest: Manifest) -> None:
        """Raises: what the services raise; StaleState if the resource is no longer as it was."""
        with self._store.taking_up(type(record), record.id, manifest.request):
            match record:
                case Cluster():
                    await self._topology.add_cluster(record)
                case Host():
                    await self._topology.add_host(record)
                case Device():
                    await self._topology.add_device(record, destroy=manifest.spec.destroyData)

    def _record(self, kind: type[Record], manifest: Manifest) -> Cluster | Host | Device:
        spec = manifest.spec
        if kind is Cluster:
            return written.cluster_of(manifest.metadata.name)
        if kind is Host:
            return written.host_of(spec, self._cluster(spec.cluster or spec.clusterId))
        host = self._found(Host, spec.host or spec.hostId, self._inventory.hosts.get(HostId(spec.host or spec.hostId)))
        return written.device_of(spec, host.id)

    def _cluster(self, said: str) -> ClusterId:
        clusters = self._inventory.clusters
        if said:
            return self._found(Cluster, said, clusters.get(ClusterId(said))).id
        if len(clusters) != 1:
            raise Unresolved(
                f"cluster is missing, and there is not one GlusterCluster but {len(clusters)}: name one in spec.cluster"
            )
        return next(iter(clusters))

    def _found(self, kind: type[_Named], said: str, by_id: _Named | None) -> _Named:
        named = self._store.record_in(kind, said)
        if isinstance(named, kind):
            return named
        if by_id is not None:
            return by_id
        name = BY_RECORD[kind].name
        raise Unresolved(f"there is no {name} {said!r} that is accepted: apply it, or see why it is not")


def _told(record: Cluster | Host | Device) -> str:
    match record:
        case Cluster():
            return f"cluster {record.id}"
        case Host():
            return f"host {record.manage}"
        case Device():
            return f"device {record.path} of that host"

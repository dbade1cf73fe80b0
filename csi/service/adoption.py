"""Volumes that the hosts know and the records do not: found by what their bricks say of themselves.

The state is a cache of what the hosts hold. When it is lost, a request by name, or the loading of the
topology, finds each volume again and records it; nothing on any host is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from csi.core import changes
from csi.core.errors import Incoherent
from csi.core.inventory import Inventory
from csi.core.model import Backend, BrickIdentity, ClusterId, Device, Host, Volume, VolumeId
from csi.ports import BrickBackend, Gluster, GlusterVolume, Pool
from csi.service import finding
from csi.service.finding import FoundSnapshots
from csi.tasks import together


@dataclass(frozen=True, slots=True)
class Survey:
    """What the hosts of a cluster hold beyond the records; ``strays`` are bricks without a Gluster volume."""

    volumes: tuple[Volume, ...]
    strays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adoption:
    gluster: Gluster
    backends: Mapping[Backend, BrickBackend]
    instance: str
    inventory: Callable[[], Inventory]

    async def find(self, volume: VolumeId, gluster_name: str, clusters: Iterable[ClusterId]) -> Volume | None:
        """The volume as its bricks describe it; None if no cluster has a Gluster volume of that name.

        Raises: Incoherent if there is one that is not ours or not whole.
        """
        for cluster in clusters:
            found = await self.gluster.info(self._pool(cluster), gluster_name)
            if found is not None:
                hosts = self._hosts_of(cluster, {address for address, _ in found.bricks})
                identities = [i for i in await self._identities(hosts) if i.volume_id == volume]
                return self._assemble(cluster, found, identities)
        return None

    async def find_id(self, volume: VolumeId) -> Volume | None:
        """The same by volume id alone, whatever prefix the Gluster volume has."""
        inventory = self.inventory()
        for cluster in inventory.hosts_of:
            for found in await self.gluster.volumes(self._pool(cluster)):
                if found.name.endswith(f"_{volume}"):
                    return await self.find(volume, found.name, [cluster])
        return None

    async def survey(self, cluster: ClusterId) -> Survey:
        """Every volume of ours on the cluster's hosts that has no record."""
        inventory = self.inventory()
        hosts = [inventory.hosts[host] for host in inventory.hosts_of.get(cluster, ())]
        held = {brick.id for volume in inventory.volumes.values() for brick in volume.bricks}
        held |= {brick.id for operation in inventory.operations.values() for brick in operation.volume.bricks}
        by_volume: dict[str, list[BrickIdentity]] = {}
        for identity in await self._identities(hosts):
            if identity.instance == self.instance and identity.brick.id not in held:
                by_volume.setdefault(identity.gluster_name, []).append(identity)
        if not by_volume:
            return Survey((), ())
        present = {volume.name: volume for volume in await self.gluster.volumes(self._pool(cluster))}
        volumes: list[Volume] = []
        strays: list[str] = []
        for name, identities in sorted(by_volume.items()):
            if name in present:
                volumes.append(self._assemble(cluster, present[name], identities))
            else:
                strays += [
                    f"{inventory.hosts[i.brick.host_id].manage}:{i.brick.path} says it belongs to volume "
                    f"{i.volume_name!r}, but there is no Gluster volume {name}"
                    for i in identities
                ]
        return Survey(tuple(volumes), tuple(strays))

    async def survey_snapshots(self, cluster: ClusterId) -> FoundSnapshots:
        """Every snapshot of ours on the cluster's devices that has no record."""
        return await finding.survey(self.inventory, self.instance, self.backends, cluster)

    def _pool(self, cluster: ClusterId) -> Pool:
        return Pool.of(self.inventory(), cluster)

    def _hosts_of(self, cluster: ClusterId, addresses: set[str]) -> list[Host]:
        return [host for host in self._pool(cluster).hosts if host.storage in addresses]

    async def _identities(self, hosts: Sequence[Host]) -> list[BrickIdentity]:
        inventory = self.inventory()
        calls = []
        for host in hosts:
            by_backend: dict[Backend, list[Device]] = {}
            for device_id in inventory.devices_of.get(host.id, ()):
                device = inventory.devices[device_id]
                by_backend.setdefault(device.backend, []).append(device)
            calls += [self.backends[backend].find(host, devices) for backend, devices in by_backend.items()]
        return [identity for found in await together(calls) for identity in found]

    def _assemble(self, cluster: ClusterId, found: GlusterVolume, identities: Sequence[BrickIdentity]) -> Volume:
        """The volume that the identities describe, if they and glusterd agree on every brick."""
        inventory = self.inventory()
        by_place = {}
        for identity in identities:
            host = inventory.hosts.get(identity.brick.host_id)
            if host is not None:
                by_place[(host.storage, identity.brick.path)] = identity
        ordered = [by_place.get(place) for place in found.bricks]
        missing = [f"{a}:{p}" for (a, p), identity in zip(found.bricks, ordered, strict=True) if identity is None]
        if missing:
            raise Incoherent(
                f"Gluster volume {found.name} exists, but bricks of it carry no identity of this driver on a device of "
                f"the topology: {', '.join(missing)}; if it is ours, load the topology with all its devices first"
            )
        whole = [identity for identity in ordered if identity is not None]
        # A change that was not done with had written its spec to some of them only.
        first = max(whole, key=lambda identity: identity.spec.changed)
        for identity in whole:
            same = (identity.instance, identity.volume_id, identity.volume_name, identity.gid)
            if same != (self.instance, first.volume_id, first.volume_name, first.gid) or changes.differences(
                first.spec, replace(identity.spec, zones=first.spec.zones)
            ):
                raise Incoherent(
                    f"Gluster volume {found.name}: brick {identity.brick.path} says {_claim(identity)}; "
                    f"brick {first.brick.path} says {_claim(first)}; this is instance {self.instance!r}"
                )
        return Volume(
            id=first.volume_id,
            name=first.volume_name,
            gluster_name=found.name,
            cluster_id=cluster,
            # What an expansion has not come to says the old size: the volume has it for certain.
            size=min(identity.volume_size for identity in whole),
            spec=first.spec,
            bricks=tuple(identity.brick for identity in whole),
            gid=first.gid,
            source=first.source,
            # What is done is said by all of them, or was not done with.
            regroup_from=next((i.regroup_from for i in whole if i.regroup_from is not None), None),
        )


def _claim(identity: BrickIdentity) -> str:
    return f"instance {identity.instance!r}, volume {identity.volume_name!r}, gid {identity.gid}"

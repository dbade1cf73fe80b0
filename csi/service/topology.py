"""Clusters, hosts and devices: added one by one, or loaded from a topology file as often as one likes; removed.

Loading is declarative and additive: what the file names and the records lack is added, tags and zones are brought
up to date, nothing is ever removed. Each host is reached, its glusterd asked, its peers probed; each device is checked
and claimed before it is recorded. One thing that fails does not keep the others from being loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from csi.core import naming, topologyfile
from csi.core.errors import DriverError, InUse, InvalidRequest
from csi.core.inventory import Inventory
from csi.core.model import Availability, Backend, Cluster, ClusterId, Device, Host, Record
from csi.core.topologyfile import ClusterEntry, DeviceEntry, NodeEntry, TopologyFile
from csi.ports import BrickBackend, GivesBack, Gluster, Put, Remove, Store
from csi.service.adoption import Adoption


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of a loading, for a person; ``failed`` if the line tells of something that could not be done."""

    line: str
    failed: bool = False


class Topology:
    def __init__(
        self,
        store: Store,
        gluster: Gluster,
        backends: Mapping[Backend, BrickBackend],
        adoption: Adoption,
        instance: str,
    ) -> None:
        self._store = store
        self._gluster = gluster
        self._backends = backends
        self._adoption = adoption
        self._instance = instance
        self._loading = asyncio.Lock()

    async def load(self, file: TopologyFile) -> AsyncIterator[Progress]:
        """Bring the records up to the file; yields a line for each thing as it is done."""
        async with self._loading:
            for entry in file.clusters:
                async for progress in self._load_cluster(entry):
                    yield progress

    # --- one by one: whoever calls has seen to it that there is no such record yet -------------------

    async def add_cluster(self, cluster: Cluster) -> None:
        """Raises: StaleState if it is recorded by now."""
        await self._put(cluster)

    async def add_host(self, host: Host) -> None:
        """Reach it, ask its glusterd, bring it into the pool of its cluster, record it.

        Raises: StaleState if it is recorded by now or its cluster has gone, and the errors of hosts and glusterd.
        """
        await self._gluster.peers(host)  # is it there, and does its glusterd answer?
        # One after the other: of two that are first in their cluster, neither would be probed from the other.
        async with self._loading:
            await self._join(host)

    async def add_device(self, device: Device, *, destroy: bool = False) -> None:
        """Check it, measure it, claim it, record it. ``total`` 0: all that it has.

        ``destroy``: an administrator has confirmed that what is on it is not needed.

        Raises: InvalidRequest, InUse if it is another's, StaleState, and the errors of hosts.
        """
        host = self._inventory.hosts[device.host_id]
        if (backend := self._backends.get(device.backend)) is None:
            known = ", ".join(sorted(self._backends))
            raise InvalidRequest("backend", device.backend.value, f"one that this release has: {known}")
        facts = await backend.check(host, device.path, destroy=destroy)
        if device.total > facts.total:
            raise InvalidRequest(
                "total", device.total, f"{host.manage}:{device.path} has {facts.total} bytes for bricks"
            )
        measured = replace(device, backend=facts.backend, total=device.total or facts.total)
        await backend.claim(host, measured, self._instance, destroy=destroy)
        await self._put(measured)

    async def close_off(self, record: Host | Device) -> None:
        """No new brick goes there from now on."""
        if record.state is Availability.ONLINE:
            await self._put(replace(record, state=Availability.OFFLINE))

    async def remove(self, record: Cluster | Host | Device) -> None:
        """Forget it. A disk is given back first; otherwise nothing is done on any host: the mark of a directory and the
        peers of a pool stay as they are.

        Raises: InUse while another record refers to it, and what ``GivesBack`` raises: the record stays then.
        """
        if isinstance(record, Device):
            record = await self._give_back(record)
        await self._store.commit([Remove(record)])

    async def _give_back(self, device: Device) -> Device:
        """The record as it is then: closed to bricks before anything is done, so that this can be done again.

        A device or host that is said to have failed is held to be lost, and not asked.
        """
        backend, host = self._backends.get(device.backend), self._inventory.hosts[device.host_id]
        if not isinstance(backend, GivesBack) or Availability.FAILED in (device.state, host.state):
            return device
        await self.close_off(device)
        closed = self._inventory.devices[device.id]
        if self._inventory.used.get(device.id, 0):
            raise InUse(f"device {host.manage}:{device.path} still carries bricks: delete their volumes first")
        await backend.give_back(host, closed)
        return closed

    async def adopt(self, cluster: ClusterId) -> AsyncIterator[Progress]:
        """Volumes that the hosts of the cluster hold and the records lost."""
        async with self._loading:
            async for progress in self._adopt(cluster):
                yield progress

    # --- from a file ----------------------------------------------------------------------------------

    @property
    def _inventory(self) -> Inventory:
        return self._store.inventory

    async def _put(self, record: Record) -> None:
        await self._store.commit([Put(record)])

    async def _load_cluster(self, entry: ClusterEntry) -> AsyncIterator[Progress]:
        cluster, problem = self._cluster_of(entry)
        if problem:
            yield Progress(problem, failed=True)
            return
        if cluster in self._inventory.clusters:
            yield Progress(f"Found cluster {cluster}")
        else:
            await self._put(Cluster(cluster))
            yield Progress(f"Creating cluster ... ID: {cluster}")
        # Hosts one after the other: each is probed from one that is in the pool already. Their devices go side by side.
        loaded: list[tuple[Host, NodeEntry]] = []
        for node in entry.nodes:
            try:
                host, line = await self._load_host(cluster, node)
            except DriverError as error:
                yield Progress(f"Node {node.manage}: {error}", failed=True)
                continue
            loaded.append((host, node))
            yield Progress(line)
        work = [self._load_device(host, device) for host, node in loaded for device in node.devices]
        for done in asyncio.as_completed(work):
            yield await done
        async for progress in self._adopt(cluster):
            yield progress

    def _cluster_of(self, entry: ClusterEntry) -> tuple[ClusterId, str]:
        """The cluster that the entry's known hosts are in, else a new one; or what is wrong."""
        known = {
            host.cluster_id
            for node in entry.nodes
            if (host := self._inventory.hosts.get(naming.host_id(node.manage))) is not None
        }
        if len(known) > 1:
            return ClusterId(""), (
                f"the nodes {', '.join(node.manage for node in entry.nodes)} stand in one cluster of the file, but are "
                f"recorded in {len(known)} clusters ({', '.join(sorted(known))}): split the entry"
            )
        return (known.pop() if known else naming.cluster_id(min(node.manage for node in entry.nodes))), ""

    async def _load_host(self, cluster: ClusterId, node: NodeEntry) -> tuple[Host, str]:
        host_id = naming.host_id(node.manage)
        known = self._inventory.hosts.get(host_id)
        host = Host(host_id, cluster, node.manage, node.storage, node.zone, tags=node.tags)
        if known is not None:
            if known.storage != node.storage:
                raise InvalidRequest(
                    "storage",
                    node.storage,
                    f"host {node.manage} is recorded with {known.storage}, and its bricks are named by that",
                )
            changed = replace(known, zone=node.zone, tags=node.tags)
            if changed == known:
                return known, f"Found node {node.manage} on cluster {cluster}"
            await self._put(changed)
            return self._inventory.hosts[host_id], f"Updated node {node.manage} on cluster {cluster}"
        await self._gluster.peers(host)  # is it there, and does its glusterd answer?
        await self._join(host)
        return self._inventory.hosts[host_id], f"Creating node {node.manage} ... ID: {host_id}"

    async def _join(self, host: Host) -> None:
        others = [self._inventory.hosts[other] for other in self._inventory.hosts_of.get(host.cluster_id, ())]
        if others:
            await self._gluster.probe(others[0], host.storage)
        await self._put(host)

    async def _load_device(self, host: Host, entry: DeviceEntry) -> Progress:
        device_id = naming.device_id(host.id, entry.path)
        known = self._inventory.devices.get(device_id)
        name = f"device {host.manage}:{entry.path}"
        try:
            if known is None:
                device = Device(device_id, host.id, entry.path, topologyfile.backend_of(entry.path), 0, tags=entry.tags)
                await self.add_device(device, destroy=entry.destroydata)
                return Progress(f"Adding {name} ... OK")
            if known.tags != entry.tags:
                await self._put(replace(known, tags=entry.tags))
                return Progress(f"Updated {name}")
        except DriverError as error:
            return Progress(f"Adding {name} ... {error}", failed=True)
        return Progress(f"Found {name}")

    async def _adopt(self, cluster: ClusterId) -> AsyncIterator[Progress]:
        """Volumes and snapshots that the hosts hold and the records lost."""
        if not self._inventory.hosts_of.get(cluster):
            return
        try:
            survey = await self._adoption.survey(cluster)
            copies = await self._adoption.survey_snapshots(cluster)
        except DriverError as error:
            yield Progress(f"Looking for volumes and snapshots on cluster {cluster}: {error}", failed=True)
            return
        for volume in survey.volumes:
            await self._put(volume)
            yield Progress(f"Found volume {volume.name} ({volume.id}) on its hosts: adopted")
        for stray in survey.strays:
            yield Progress(f"Stray brick: {stray}")
        for snapshot in copies.snapshots:
            await self._put(snapshot)
            yield Progress(f"Found snapshot {snapshot.name} ({snapshot.id}) on its hosts: adopted")
        for stray in copies.strays:
            yield Progress(f"Stray copies: {stray}")

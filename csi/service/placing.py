"""Where new bricks go: the hosts that answer, the clusters of a class, a layout, and how much more would fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from csi.core import growth, placement, sizes
from csi.core.errors import InvalidRequest, NoRoom, NoSpace, SizeOutOfRange, Unavailable
from csi.core.inventory import Inventory
from csi.core.model import Availability, BrickId, ClusterId, Expansion, HostId, Volume, VolumeSpec
from csi.core.placement import Layout, Limits, PlacementRequest
from csi.service.fullness import Fullness
from csi.service.journal import Journal
from csi.service.presence import Presence


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes: in all, in one volume at most, in one volume at least."""

    available: int
    maximum: int
    minimum: int


@dataclass(slots=True)
class Placing:
    """``lock``: held from the look at the free space to the commit that reserves it; nothing else is awaited in it."""

    journal: Journal
    presence: Presence
    limits: Limits
    pools: Fullness
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def silent(self, spec: VolumeSpec) -> frozenset[HostId]:
        """The hosts of the class's clusters that do not answer."""
        inventory = self.journal.inventory
        ids = [host for cluster in self.clusters(spec) for host in inventory.hosts_of.get(cluster, ())]
        return await self.presence.silent([inventory.hosts[host] for host in ids])

    def clusters(self, spec: VolumeSpec) -> tuple[ClusterId, ...]:
        """The clusters that the class names, or all of them.

        Raises: InvalidRequest for a cluster that is not in the topology.
        """
        inventory = self.journal.inventory
        for cluster in spec.cluster_ids:
            if cluster not in inventory.clusters:
                known = ", ".join(sorted(inventory.clusters)) or "none"
                raise InvalidRequest("clusterId", cluster, f"a cluster of the topology, which has: {known}")
        return spec.cluster_ids or tuple(sorted(inventory.clusters))

    def check_present(self, volume: Volume, silent: frozenset[HostId]) -> None:
        """Raises: Unavailable if any host of the volume is among the silent: a change could not be carried out."""
        inventory = self.journal.inventory
        away = {inventory.hosts[b.host_id].manage for b in volume.bricks if b.host_id in silent}
        if away:
            names = ", ".join(sorted(away))
            raise Unavailable(f"volume {volume.name!r} cannot be changed while these hosts do not answer: {names}")

    def counted(self, parts: Iterable[BrickId] = ()) -> Inventory:
        """The present inventory, with what the hosts were seen to hold beyond it: as ``Fullness.taken``."""
        return self.journal.inventory.counting(self.pools.taken(parts))

    def without(self, silent: frozenset[HostId], parts: Iterable[BrickId] = ()) -> Inventory:
        """The same, with the silent hosts offline."""
        inventory = self.counted(parts)
        absent = [replace(inventory.hosts[host], state=Availability.OFFLINE) for host in sorted(silent)]
        return inventory.with_changes(absent, ()) if absent else inventory

    def open(self, silent: frozenset[HostId]) -> Inventory:
        """The same, without the devices that a thin pool keeps from taking anything new."""
        return self.without(silent).shutting(self.pools.closed())

    def place(self, size: int, spec: VolumeSpec, silent: frozenset[HostId]) -> tuple[ClusterId, Layout]:
        """The cluster whose layout needs the fewest sets; the first of those that are equal. The lock is held.

        Raises: NoSpace, but Unavailable if hosts are away that could have made the difference.
        """
        best: tuple[int, ClusterId, Layout] | None = None
        refusals: list[NoSpace] = []
        inventory = self.open(silent)
        for cluster in self.clusters(spec):
            try:
                layout = placement.place(inventory, cluster, PlacementRequest(size, spec, self.limits))
            except NoSpace as refusal:
                refusals.append(refusal)
                continue
            if best is None or len(layout.sets) < best[0]:
                best = (len(layout.sets), cluster, layout)
        if best is not None:
            return best[1], best[2]
        if not refusals:
            raise NoSpace(size, 0, "there is no cluster: apply a GlusterCluster, or load a topology file", ())
        nearest = max(refusals, key=lambda refusal: refusal.largest)
        if silent:
            names = ", ".join(inventory.hosts[host].manage for host in sorted(silent))
            raise Unavailable(f"no volume can be placed while these hosts do not answer: {names} ({nearest})")
        raise nearest

    def enlarged(self, volume: Volume, size: int, silent: frozenset[HostId]) -> Volume:
        """The volume with ``size`` bytes: in place, or with further sets of bricks where its class has it so.

        The lock is held. Raises: NoSpace with the largest size that it could have, SizeOutOfRange, NoRoom if a thin
        pool of it is too full.
        """
        limits = self.limits
        try:
            own = [brick.id for brick in volume.bricks]
            wanted = growth.in_place(self.without(silent, own), volume, size, limits)
            grown = [new.id for new, old in zip(wanted.bricks, volume.bricks, strict=True) if new.size > old.size]
            self.pools.check(grown, f"expansion of volume {volume.name!r}")
            return wanted
        except (NoSpace, NoRoom, SizeOutOfRange) as refusal:
            spec = volume.spec
            room = limits.max_bricks - len(volume.bricks)
            if spec.expansion is not Expansion.ADD_SETS or room < spec.durability.set_size:
                raise
            request = PlacementRequest(size - volume.size, spec, replace(limits, max_bricks=room))
            try:
                layout = placement.place(self.open(silent), volume.cluster_id, request)
            except (NoSpace, SizeOutOfRange) as other:
                largest = max(getattr(refusal, "largest", 0), volume.size + getattr(other, "largest", 0))
                raise NoSpace(size, largest, f"{refusal}; with further sets: {other}", ()) from other
            return growth.with_sets(volume, size, layout)

    def capacity(self, spec: VolumeSpec) -> Capacity:
        """What volumes of this class can still take."""
        inventory = self.open(frozenset())
        request = PlacementRequest(sizes.SMALLEST_VOLUME, spec, self.limits)
        available = maximum = 0
        for cluster in self.clusters(spec):
            available += placement.available(inventory, cluster, request)
            maximum = max(maximum, placement.largest(inventory, cluster, request))
        return Capacity(available, maximum, sizes.SMALLEST_VOLUME)

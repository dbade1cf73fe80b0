"""What each word of a plan does to the hosts, and how it is undone.

Every step asks before it acts (the adapters do), so doing one twice is harmless. The steps of one host are one
round trip; hosts go in parallel. Destruction needs evidence: the backends look at the identity of each brick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from csi.core.errors import Incoherent
from csi.core.inventory import Inventory
from csi.core.model import (
    Backend,
    Brick,
    BrickIdentity,
    ClusterId,
    Host,
    Operation,
    PlacedBrick,
    Step,
    Volume,
)
from csi.ports import BrickBackend, Gluster, GlusterVolume, Pool, PoolExtender
from csi.tasks import both, together


def identify(volume: Volume, brick: Brick, instance: str, term: int = 0) -> BrickIdentity:
    return BrickIdentity(
        instance=instance,
        volume_id=volume.id,
        volume_name=volume.name,
        gluster_name=volume.gluster_name,
        cluster_id=volume.cluster_id,
        volume_size=volume.size,
        spec=volume.spec,
        gid=volume.gid,
        brick=brick,
        term=term,
        source=volume.source,
        regroup_from=volume.regroup_from,
    )


async def on_all(calls: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Run the calls side by side; let every one end before the first error is raised.

    A host that is told to stop half-way would have to be asked what it did; one that ends tells.
    """
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


Deed = Callable[[Volume], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Steps:
    """``further``: what other modules know how to do; ``back``: what is undone of it, besides what there is of it."""

    gluster: Gluster
    backends: Mapping[Backend, BrickBackend]
    instance: str
    inventory: Callable[[], Inventory]
    term: Callable[[], int] = lambda: 0
    further: dict[Step, Deed] = field(default_factory=dict)
    back: dict[Step, Deed] = field(default_factory=dict)

    async def apply(self, operation: Operation) -> None:
        """The whole plan in order."""
        for step in operation.steps:
            if step is Step.ADD_BRICKS:
                await self._add_bricks(operation)
            elif step is Step.EXTEND_POOLS:
                await self._extend_pools(operation)
            elif step is Step.GROW_BRICKS:
                await self._grow_bricks(operation)
            elif step is Step.REMOVE_VOLUME:
                await self._remove_volume(operation.volume, operation.before)
            else:
                await self._apply(step, operation.volume)

    async def undo(self, operation: Operation) -> None:
        """Take back a creation, in reverse. Nobody was told of the volume, so it holds no data."""
        for step in operation.steps:
            if (deed := self.back.get(step)) is not None:
                await deed(operation.volume)
        await self._remove_volume(operation.volume)
        await self._destroy_bricks(operation.volume)

    async def verify(self, volume: Volume) -> None:
        """Look at the identity of every brick that is there.

        Raises: Incoherent with the evidence, if any says that it is another's.
        """
        await on_all([backend.verify(host, bricks) for host, backend, bricks in self.by_host(volume)])

    def pool(self, cluster: ClusterId) -> Pool:
        return Pool.of(self.inventory(), cluster)

    def hosts(self, volume: Volume) -> tuple[Host, ...]:
        """The host of each brick, in the order of the bricks."""
        inventory = self.inventory()
        return tuple(inventory.hosts[brick.host_id] for brick in volume.bricks)

    async def _apply(self, step: Step, volume: Volume) -> None:
        match step:
            case Step.MAKE_BRICKS:
                await on_all([backend.create(host, bricks) for host, backend, bricks in self.by_host(volume)])
            case Step.CREATE_VOLUME:
                # Side by side: glusterd waits for its peers most of the time, and has no use for fstab.
                creation = self.gluster.create(self.pool(volume.cluster_id), volume, self.hosts(volume))
                entries = [backend.mount_at_boot(host, bricks) for host, backend, bricks in self.by_host(volume)]
                await on_all([creation, *entries])
            case Step.SET_OPTIONS:
                await self._set_options(volume)
            case Step.START_VOLUME:
                await self.start(volume)
            case Step.DESTROY_BRICKS:
                await self._destroy_bricks(volume)
            case Step.REBALANCE:
                await self.gluster.rebalance(self.pool(volume.cluster_id), volume.gluster_name)
            case _:
                await self.further[step](volume)

    async def _set_options(self, volume: Volume) -> None:
        """In one call: the profile's, and over them those of the volume."""
        pool, spec = self.pool(volume.cluster_id), volume.spec
        profile = await self.gluster.profile(pool, spec.profile) if spec.profile else ()
        merged = {**dict(profile), **dict(spec.options)}
        await self.gluster.set_options(pool, volume.gluster_name, tuple(merged.items()))

    async def _grow_bricks(self, operation: Operation) -> None:
        before = self.placed(operation.before) if operation.before is not None else ()
        were = {placed.brick.id: placed for placed in before}
        await on_all(
            [
                backend.grow(host, bricks, [were[p.brick.id] for p in bricks if p.brick.id in were])
                for host, backend, bricks in self.by_host(operation.volume)
            ]
        )

    async def _add_bricks(self, operation: Operation) -> None:
        """Make the bricks that the volume did not have before, and bring them into it."""
        volume, before = operation.volume, operation.before
        old = {brick.id for brick in before.bricks} if before is not None else set()
        new = replace(volume, bricks=tuple(brick for brick in volume.bricks if brick.id not in old))
        await on_all([backend.create(host, bricks) for host, backend, bricks in self.by_host(new)])
        addition = self.gluster.add_bricks(
            self.pool(volume.cluster_id), volume, tuple(zip(self.hosts(new), new.bricks, strict=True))
        )
        entries = [backend.mount_at_boot(host, bricks) for host, backend, bricks in self.by_host(new)]
        await on_all([addition, *entries])
        await self.start(volume)

    async def _extend_pools(self, operation: Operation) -> None:
        wanted = {pool.brick: pool for pool in operation.pools}
        bricks = tuple(brick for brick in operation.volume.bricks if brick.id in wanted)
        calls = []
        for host, backend, placed in self.by_host(replace(operation.volume, bricks=bricks)):
            assert isinstance(backend, PoolExtender)
            calls.append(backend.extend_pools(host, placed, [wanted[one.brick.id] for one in placed]))
        await on_all(calls)

    async def _remove_volume(self, volume: Volume, before: Volume | None = None) -> None:
        pool = self.pool(volume.cluster_id)
        found = await self.gluster.info(pool, volume.gluster_name)
        if found is None:
            return
        self.expect(volume, found, before)
        hosts = {host.id: host for host in self.hosts(volume)}
        await self.gluster.remove(pool, volume.gluster_name, tuple(hosts.values()))

    async def start(self, volume: Volume) -> None:
        """Returns when every brick is online."""
        await self.gluster.start(self.pool(volume.cluster_id), volume.gluster_name, self._places(volume))

    def _places(self, volume: Volume) -> list[tuple[str, str]]:
        """The bricks as gluster names them: storage address and path."""
        return [(host.storage, brick.path) for host, brick in zip(self.hosts(volume), volume.bricks, strict=True)]

    async def remains(self, volume: Volume) -> list[str]:
        """What there is of it, for people: its Gluster volume and its bricks."""
        groups = self.by_host(volume)
        known, states = await both(
            self.gluster.info(self.pool(volume.cluster_id), volume.gluster_name),
            together([backend.inspect(host, bricks) for host, backend, bricks in groups]),
        )
        found = [f"Gluster volume {volume.gluster_name}"] if known is not None else []
        for (host, _, bricks), there in zip(groups, states, strict=True):
            present = [p for p, state in zip(bricks, there, strict=True) if state.image or state.mounted]
            found += [f"brick {host.manage}:{placed.brick.path}" for placed in present]
        return found

    def expect(self, volume: Volume, found: GlusterVolume, before: Volume | None = None) -> None:
        """Raises: Incoherent if the Gluster volume is not made of our bricks, nor of those that it had ``before``."""
        ours = self._places(volume)
        earlier = sorted(self._places(before)) if before is not None else None
        if sorted(found.bricks) not in (sorted(ours), earlier):
            strange = [f"{address}:{path}" for address, path in sorted(set(found.bricks) - set(ours))]
            raise Incoherent(
                f"Gluster volume {volume.gluster_name} is not made of the bricks of volume {volume.name!r}: "
                + (f"it has {', '.join(strange)}" if strange else f"it lacks {len(ours) - len(found.bricks)} of them")
                + "; nothing was changed"
            )

    def placed(self, volume: Volume) -> tuple[PlacedBrick, ...]:
        """The bricks with the records that they stand on, in their order."""
        inventory, term = self.inventory(), self.term()
        return tuple(
            PlacedBrick(
                identify(volume, brick, self.instance, term),
                inventory.hosts[brick.host_id],
                inventory.devices[brick.device_id],
                volume.spec.root_mode,
            )
            for brick in volume.bricks
        )

    async def _destroy_bricks(self, volume: Volume) -> None:
        await on_all([backend.destroy(host, bricks) for host, backend, bricks in self.by_host(volume)])

    def by_host(self, volume: Volume) -> list[tuple[Host, BrickBackend, list[PlacedBrick]]]:
        """One entry, and so one round trip, per host and kind of device."""
        groups: dict[tuple[str, Backend], list[PlacedBrick]] = {}
        for placed in self.placed(volume):
            groups.setdefault((placed.host.id, placed.device.backend), []).append(placed)
        return [(bricks[0].host, self.backends[backend], bricks) for (_, backend), bricks in groups.items()]

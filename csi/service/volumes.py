"""Volumes: create, delete, look up, list, and how much more would fit. The journal line is in ``journal.py``."""

from __future__ import annotations

from dataclasses import dataclass

from csi.core import changes, gids, naming, sizes
from csi.core.errors import (
    Busy,
    Conflict,
    DriverError,
    Incoherent,
    InvalidToken,
    NotFound,
    Unavailable,
)
from csi.core.model import (
    Brick,
    Direction,
    HostId,
    Operation,
    OperationKind,
    Source,
    SourceKind,
    Volume,
    VolumeId,
    VolumeSpec,
    VolumeState,
)
from csi.core.placement import Layout
from csi.service.adoption import Adoption
from csi.service.journal import Journal
from csi.service.operations import Operations
from csi.service.placing import Capacity, Placing
from csi.service.regrouping import Regrouping
from csi.service.restoring import Restoring
from csi.service.steps import Steps
from csi.service.succession import Succession


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """``required`` and ``limit`` in bytes, 0 where the caller does not care."""

    name: str
    required: int
    limit: int
    spec: VolumeSpec
    source: Source | None = None  # what it begins as a copy of


@dataclass(frozen=True, slots=True)
class Page:
    volumes: tuple[Volume, ...]
    next_token: str  # empty: that was all


@dataclass(frozen=True, slots=True)
class Condition:
    abnormal: bool
    message: str


class Volumes:
    """All that is done with volumes. One object per process; the store has one writer."""

    def __init__(
        self,
        journal: Journal,
        steps: Steps,
        adoption: Adoption,
        operations: Operations,
        *,
        placing: Placing,
        succession: Succession,
        restoring: Restoring,
        regrouping: Regrouping,
    ) -> None:
        self._journal = journal
        self._steps = steps
        self._adoption = adoption
        self._operations = operations
        self._placing = placing
        self._succession = succession
        self._restoring = restoring
        self._regrouping = regrouping

    # --- create -------------------------------------------------------------------------------

    async def create(self, request: CreateRequest) -> Volume:
        """The volume of that name, made if need be; it is online when this returns.

        Raises: Conflict if it exists and does not fit the request, Busy, NoSpace, GidsExhausted,
        SizeOutOfRange, Incoherent, Unavailable and the errors of the hosts.
        """
        volume_id = naming.volume_id(request.name)
        return await self._operations.run(
            volume_id, OperationKind.CREATE, request, lambda: self._create(volume_id, request)
        )

    async def _create(self, volume_id: VolumeId, request: CreateRequest) -> Volume:
        volume = self._journal.inventory.volumes.get(volume_id)
        if volume is not None:
            if volume.state is VolumeState.DELETING:
                raise Busy(f"volume {request.name!r} is still being deleted; ask again when that is done")
            return await self._regrouping.finish(_agreeing(volume, request))
        operation = self._journal.find(OperationKind.CREATE, volume_id)
        if operation is not None and operation.direction is Direction.FORWARD and _is_clone(operation):
            # Its copies may be of two moments: what there is of it is of no use.
            operation = await self._journal.turn_back(operation, "interrupted while its source was copied")
        if operation is not None and operation.direction is Direction.FORWARD:
            _agreeing(operation.volume, request)
            return await self._regrouping.finish(await self._carry_out(operation))
        if operation is not None:
            await self._undo(operation)
        silent = await self._placing.silent(request.spec)
        if (found := await self._adopt(volume_id, request, silent)) is not None:
            return await self._regrouping.finish(found)
        made = await self._carry_out(await self._begin(volume_id, request, silent))
        return await self._regrouping.finish(made)

    async def _adopt(self, volume_id: VolumeId, request: CreateRequest, silent: frozenset[HostId]) -> Volume | None:
        """A volume that the hosts know by this name though the records do not.

        A cluster of which no host answers is not asked: when it was loaded, its volumes were found.
        """
        name = naming.gluster_name(volume_id, request.spec.name_prefix)
        hosts_of = self._journal.inventory.hosts_of
        present = [c for c in self._placing.clusters(request.spec) if set(hosts_of.get(c, ())) - silent]
        found = await self._adoption.find(volume_id, name, present)
        if found is None:
            return None
        _agreeing(found, request)
        await self._steps.start(found)
        return await self._journal.adopt(found)

    async def _begin(self, volume_id: VolumeId, request: CreateRequest, silent: frozenset[HostId]) -> Operation:
        """Decide and reserve. Between the look and the commit there is no other await."""
        async with self._placing.lock:
            if request.source is not None:
                volume, grows = self._restored(volume_id, request, request.source)
                return await self._journal.begin_create(volume, grows=grows)
            size = sizes.choose(request.required, request.limit)
            cluster, layout = self._placing.place(size, request.spec, silent)
            volume = Volume(
                id=volume_id,
                name=request.name,
                gluster_name=naming.gluster_name(volume_id, request.spec.name_prefix),
                cluster_id=cluster,
                size=size,
                spec=request.spec,
                bricks=_bricks(volume_id, layout),
                gid=gids.next_gid(self._journal.inventory, request.spec),
            )
            return await self._journal.begin_create(volume)

    def _restored(self, volume_id: VolumeId, request: CreateRequest, source: Source) -> tuple[Volume, bool]:
        size, origin = (request.required, request.limit), self._restoring.origin(source)
        parts = [part.id for part in origin.parts]
        self._placing.pools.check(parts, f"copy of {origin.what}")
        inventory = self._placing.counted(parts)
        return self._restoring.plan(
            inventory, source, volume=volume_id, name=request.name, size=size, spec=request.spec
        )

    async def _carry_out(self, operation: Operation) -> Volume:
        try:
            await self._steps.apply(operation)
        except Exception as error:
            operation = await self._journal.turn_back(operation, str(error))
            await self._undo(operation)
            raise
        return await self._journal.finish_create(operation)

    async def _undo(self, operation: Operation) -> None:
        """Raises: Unavailable if it can't be finished now, Busy if not yet; it stays in the journal until then."""
        try:
            await self._succession.look(operation)
            await self._steps.undo(operation)
        except Exception as error:
            await self._journal.note(operation, f"{operation.error}; undo: {error}")
            raise Unavailable(
                f"volume {operation.volume.name!r} could not be made ({operation.error}) and what was made of it "
                f"cannot be removed yet ({error}); its space stays reserved and this is tried again"
            ) from error
        self._succession.close(operation)
        await self._journal.finish_undo(operation)

    # --- delete -------------------------------------------------------------------------------

    async def delete(self, volume_id: str) -> None:
        """Returns when the data is gone. What does not exist is deleted already.

        Raises: Incoherent if a brick says that it is another's (nothing is changed), Busy, and Unavailable
        while a host is away: the volume is hidden, and the deletion finishes when all hosts are back.
        """
        if not naming.is_id(volume_id):
            return
        known = VolumeId(volume_id)
        await self._operations.run(known, OperationKind.DELETE, known, lambda: self._delete(known))

    async def _delete(self, volume_id: VolumeId) -> None:
        creation = self._journal.find(OperationKind.CREATE, volume_id)
        if creation is not None:
            if creation.direction is Direction.FORWARD:
                creation = await self._journal.turn_back(creation, "deleted before it was made")
            await self._undo(creation)
            return
        deletion = self._journal.find(OperationKind.DELETE, volume_id)
        if deletion is not None:
            await self._destroy(deletion)
            return
        volume = self._journal.inventory.volumes.get(volume_id)
        if volume is None:
            found = await self._adoption.find_id(volume_id)
            if found is None:
                return
            volume = await self._journal.adopt(found)
        deletion = await self._journal.begin_delete(volume)
        # One that ended a change is not taken back: the hosts may be past what the volume's record said before.
        await self._destroy(deletion, fresh=deletion.before is None)

    async def _destroy(self, deletion: Operation, *, fresh: bool = False) -> None:
        """Evidence first, then the plan. ``fresh``: nothing was done for this operation before."""
        untouched = fresh
        try:
            await self._succession.look(deletion)
            await self._steps.verify(deletion.volume)
            untouched = False
            await self._steps.apply(deletion)
        except Incoherent as error:
            if untouched:
                await self._journal.revoke_delete(deletion)
            else:
                await self._journal.note(deletion, str(error))
            raise
        except DriverError as error:
            raise await self._wait(deletion, error) from error
        self._succession.close(deletion)
        await self._journal.finish_delete(deletion)

    async def _wait(self, deletion: Operation, error: DriverError) -> Unavailable:
        await self._journal.note(deletion, str(error))
        return Unavailable(
            f"volume {deletion.volume.name!r} is being deleted; it waits for its hosts and is tried again: {error}"
        )

    # --- recovery -----------------------------------------------------------------------------

    async def resume(self, operation: Operation) -> None:
        """Bring an operation to its end that nobody waits for: creates are undone, deletes finished."""

        async def work() -> None:
            if operation.kind is OperationKind.DELETE:
                await self._delete(operation.volume.id)
                return
            present = self._journal.find(OperationKind.CREATE, operation.volume.id)
            if present is None:
                return
            if present.direction is Direction.FORWARD:
                present = await self._journal.turn_back(present, "interrupted, and not asked for again")
            await self._undo(present)

        await self._operations.run(operation.volume.id, operation.kind, "recovery", work)

    # --- look ---------------------------------------------------------------------------------

    def get(self, volume_id: str) -> Volume:
        """Raises: NotFound, also for a volume that is being deleted."""
        volume = self._journal.inventory.volumes.get(VolumeId(volume_id))
        if volume is None or volume.state is VolumeState.DELETING:
            raise NotFound("volume", volume_id)
        return volume

    def list(self, token: str, limit: int) -> Page:
        """Volumes by id, after ``token`` (the last id of the page before); ``limit`` 0 means all.

        A token stays good when its volume is deleted. Raises: InvalidToken.
        """
        if token and not naming.is_id(token):
            raise InvalidToken(token)
        volumes = self._journal.inventory.volumes
        ids = sorted(i for i in volumes if i > token and volumes[i].state is VolumeState.READY)
        page = ids[:limit] if limit else ids
        return Page(tuple(volumes[i] for i in page), page[-1] if len(page) < len(ids) else "")

    def capacity(self, spec: VolumeSpec) -> Capacity:
        """What volumes of this class can still take."""
        return self._placing.capacity(spec)

    async def condition(self, volume: Volume) -> Condition:
        """Whether glusterd shows every brick online."""
        offline = await self._steps.gluster.offline_bricks(self._steps.pool(volume.cluster_id), volume.gluster_name)
        if offline is None:
            return Condition(True, f"Gluster volume {volume.gluster_name} does not exist on its pool")
        if offline:
            return Condition(True, f"bricks offline: {', '.join(offline)}")
        return Condition(False, f"all {len(volume.bricks)} bricks are online")

    def servers(self, volume: Volume) -> tuple[str, ...]:
        """The storage addresses to mount from: the hosts with bricks first, then the rest of the pool."""
        inventory = self._journal.inventory
        own = [inventory.hosts[brick.host_id].storage for brick in volume.bricks]
        rest = [inventory.hosts[host].storage for host in inventory.hosts_of.get(volume.cluster_id, ())]
        return tuple(dict.fromkeys([*own, *rest]))


def _bricks(volume_id: VolumeId, layout: Layout) -> tuple[Brick, ...]:
    bricks = []
    for set_index, places in enumerate(layout.sets):
        for index, place in enumerate(places):
            brick_id = naming.brick_id(volume_id, set_index, index)
            bricks.append(
                Brick(
                    id=brick_id,
                    set=set_index,
                    index=index,
                    host_id=place.host.id,
                    device_id=place.device.id,
                    size=place.size,
                    footprint=place.footprint,
                    path=naming.brick_directory(place.device.id, brick_id, place.device.backend),
                    role=place.role,
                )
            )
    return tuple(bricks)


def _is_clone(operation: Operation) -> bool:
    return operation.volume.source is not None and operation.volume.source.kind is SourceKind.VOLUME


def _agreeing(volume: Volume, request: CreateRequest) -> Volume:
    """The volume itself. Raises: Conflict naming what differs from the request."""
    # Where the bricks lie is no property of the class: a repetition may come for another node.
    differences = changes.differences(volume.spec, request.spec)
    if volume.source != request.source:
        made, asked = (f"{s.kind} {s.id}" if s else "nothing" for s in (volume.source, request.source))
        differences = [f"it was made of {made}, asked for {asked}", *differences]
    if volume.size < request.required or (request.limit and volume.size > request.limit):
        asked = f"at least {request.required}" + (f" and at most {request.limit}" if request.limit else "")
        differences = [f"it has {volume.size} bytes, asked for {asked}", *differences]
    if differences:
        raise Conflict("volume", request.name, "; ".join(differences))
    return volume

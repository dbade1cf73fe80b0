"""Volumes on this node: one GlusterFS client for each at its staging path, bound to a target path for each pod.

What is there is read from the kernel each time, so a restart forgets nothing. A mount whose client has *died*
is replaced, and so are the bind mounts of it; one that merely does not answer is left alone, since it recovers when
its bricks do, and with it the pods that use it. Nothing but empty directories is ever removed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from csi.core import mountsource
from csi.core.errors import Conflict, Incoherent, InUse, MountFailed, NotFound, NotStaged, Unavailable
from csi.mountports import Mounter, MountSource, MountState, Usage
from csi.nodeports import Bound, Notices, ServerLists, Staged, StagedVolumes
from csi.service.repairs import Repairs
from csi.service.turns import Turns

_log = structlog.get_logger(__name__)

_FSTYPE = "fuse.glusterfs"
# The options of a bind mount that a request decides; the kernel adds others (rw, relatime).
_DECIDED = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"}


@dataclass(frozen=True, slots=True)
class Stage:
    volume_id: str
    source: MountSource
    staging: str


@dataclass(frozen=True, slots=True)
class Publish:
    """``exclusive``: at one target on this node only. ``options`` of the bind mount: ro, nosuid, ..."""

    volume_id: str
    source: MountSource
    staging: str
    target: str
    exclusive: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VolumeStats:
    """``usage`` is None if the volume does not answer; ``message`` says how it is."""

    usage: Usage | None
    abnormal: bool
    message: str


class Publisher:
    """``servers``, ``staged`` and ``notices`` are what the node remembers and tells; without them it does neither."""

    def __init__(
        self,
        mounter: Mounter,
        turns: Turns | None = None,
        *,
        servers: ServerLists | None = None,
        staged: StagedVolumes | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._mounter = mounter
        self._turns = turns or Turns()
        self._servers = servers
        self._repairs = Repairs(staged, notices)

    async def resume(self) -> None:
        """Take up what an earlier process left half-done. To be called before anything else."""
        await self._repairs.resume()

    async def stage(self, request: Stage) -> None:
        """Raises: Conflict, MountFailed, Unavailable, Busy."""
        await self._turns.run(request, (request.volume_id, request.staging), lambda: self._stage(request))

    async def unstage(self, volume_id: str, staging: str) -> None:
        """Raises: InUse (still published), Incoherent (not GlusterFS), MountFailed (busy), Busy."""
        await self._turns.run(("unstage", volume_id, staging), (volume_id, staging), lambda: self._unstage(staging))

    async def publish(self, request: Publish) -> None:
        """Raises: NotStaged, Conflict, InUse, MountFailed, Unavailable, Busy."""
        keys = (request.volume_id, request.staging, request.target)
        await self._turns.run(request, keys, lambda: self._publish(request))

    async def unpublish(self, volume_id: str, target: str) -> None:
        """Raises: Incoherent (not GlusterFS), MountFailed (busy, or the directory is not empty), Busy."""
        await self._turns.run(("unpublish", volume_id, target), (volume_id, target), lambda: self._unpublish(target))

    async def staged(self) -> tuple[Staged, ...]:
        """What is remembered as staged."""
        return await self._repairs.staged()

    async def repair(self, staged: Staged) -> None:
        """Replace the mount if its client has died, or go on with a repair that an earlier process began.

        Raises: MountFailed, Unavailable, Busy.
        """
        # Outside of a turn: a mount that hangs keeps this look waiting, and must not keep others.
        if not await self._is_broken(staged):
            return
        request = Stage(staged.volume_id, staged.source, staged.staging)
        keys = (staged.volume_id, staged.staging)
        await self._turns.run(("repair", request), keys, lambda: self._repair(request, staged))

    async def stats(self, volume_id: str, path: str) -> VolumeStats:
        """Raises: NotFound if no volume is mounted at ``path``."""
        state = await self._mounter.inspect(path) if path.startswith("/") else None
        if state is None or state.fstype != _FSTYPE:
            raise NotFound("mount", path)
        if state.alive:
            return VolumeStats(state.usage, abnormal=False, message="mounted")
        return VolumeStats(None, abnormal=True, message=_illness(volume_id, state))

    async def stop(self, grace: float) -> None:
        await self._turns.stop(grace)
        await self._mounter.close()

    # --- staging ------------------------------------------------------------------------------

    async def _stage(self, request: Stage) -> None:
        state = await self._mounter.inspect(request.staging)
        if state is None and request.staging not in self._repairs:
            await self._mount_and_remember(request)
            return
        if state is not None and not _is_of(state, request.source):
            raise Conflict("mount", request.staging, f"{state.source} ({state.fstype}), not {request.source.volume}")
        await self._revive(request, state)

    async def _mount_and_remember(self, request: Stage) -> None:
        """Side by side: of a volume that is remembered and was never mounted nothing is ever repaired."""
        remembering = asyncio.create_task(self._repairs.remember(_staged(request)))
        try:
            await self._mount(request)
        except BaseException:
            await remembering
            await self._repairs.forget(request.staging)
            raise
        await remembering

    async def _mount(self, request: Stage) -> None:
        made = await self._mounter.make_directory(request.staging)
        try:
            await self._mounter.mount(await self._present(request), request.staging)
        except BaseException:
            if made:
                with suppress(MountFailed):
                    await self._mounter.remove_directory(request.staging)
            raise
        _log.info("staged", volume=request.volume_id, source=request.source.volume, path=request.staging)

    async def _revive(self, request: Stage, state: MountState | None) -> None:
        """See to it that a staging mount which was there is alive, a dead one replaced. None: it was taken away."""
        if state is not None and not state.alive and not state.dead:
            raise Unavailable(
                f"{_illness(request.volume_id, state)}; its client runs, so the mount at {request.staging} is left as "
                "it is: it recovers when the volume's bricks are back"
            )
        if state is not None and not state.alive:
            _log.warning("client has died, mounting anew", volume=request.volume_id, path=request.staging)
            await self._repairs.begin(_staged(request), await self._bound_to(request, state))
            await self._mounter.unmount(request.staging)
            state = None
        if state is None:
            await self._mounter.mount(await self._present(request), request.staging)
        await self._bind_again(request)

    async def _bound_to(self, request: Stage, state: MountState) -> list[Bound]:
        """The targets of a client that has died, as they are to be bound to the next one."""
        bound = []
        for target in await self._mounter.mounts_of(state.device, apart_from=(request.staging,)):
            published = await self._mounter.inspect(target)
            if published is not None and published.device == state.device:
                if published.root == "/":
                    bound.append(Bound(target, published.options))
                else:  # a subPath, which the kubelet made for one container
                    await self._repairs.tell_replaced(request.volume_id, target)
        return bound

    async def _bind_again(self, request: Stage) -> None:
        """Over the dead mounts: a container whose mount has HostToContainer propagation gets to see it, but would not
        if they were unmounted first."""
        for bound in self._repairs.to_bind(request.staging):
            await self._mounter.bind(request.staging, bound.target, bound.options)
            await self._repairs.drop(bound.target)
            _log.info("bound again", volume=request.volume_id, target=bound.target)
            await self._repairs.tell_replaced(request.volume_id, bound.target)
        await self._repairs.remember(_staged(request))

    async def _is_broken(self, staged: Staged) -> bool:
        if staged.staging in self._repairs:
            return True
        state = await self._mounter.inspect(staged.staging)
        return state is not None and state.dead and _is_of(state, staged.source)

    async def _repair(self, request: Stage, staged: Staged) -> None:
        if not await self._is_broken(staged):
            return
        state = await self._mounter.inspect(request.staging)
        if state is not None and not _is_of(state, request.source):
            return  # somebody else's by now
        try:
            await self._revive(request, state)
        except MountFailed as error:
            for bound in self._repairs.to_bind(request.staging):
                await self._repairs.tell_lost(request.volume_id, bound.target, str(error))
            raise

    async def _present(self, request: Stage) -> MountSource:
        """The source with the servers that are known now; those of the volume's context come last."""
        present = await self._servers.servers_of(request.volume_id) if self._servers is not None else ()
        return replace(request.source, servers=mountsource.preferred(present, request.source.servers))

    async def _unstage(self, staging: str) -> None:
        state = await self._mounter.inspect(staging)
        if state is None:
            await self._repairs.forget(staging)
            return
        _must_be_gluster(staging, state)
        if targets := await self._mounter.mounts_of(state.device, apart_from=(staging,)):
            raise InUse(f"{state.source} is still published at {', '.join(targets)}: unpublish it there first")
        await self._mounter.unmount(staging)
        await self._repairs.forget(staging)
        _log.info("unstaged", source=state.source, path=staging)

    # --- publishing ---------------------------------------------------------------------------

    async def _publish(self, request: Publish) -> None:
        staged = await self._staged(request)
        present = await self._mounter.inspect(request.target)
        if present is not None and present.dead and _is_of(present, request.source):
            await self._mounter.unmount(request.target)
            present = None
        if present is not None:
            _must_agree(request, present, staged)
            return
        if request.exclusive:
            others = await self._mounter.mounts_of(staged.device, apart_from=(request.staging, request.target))
            if others:
                raise InUse(
                    f"volume {request.volume_id} is published at {others[0]} already, and its access mode allows one "
                    "target on a node: unpublish it there first, or use another access mode"
                )
        await self._bind(request)
        _log.info("published", volume=request.volume_id, target=request.target, options=request.options)

    async def _staged(self, request: Publish) -> MountState:
        """The staging mount, alive."""
        staged = await self._mounter.inspect(request.staging)
        if staged is None and request.staging not in self._repairs:
            raise NotStaged(
                f"volume {request.volume_id} is not mounted at its staging path {request.staging}: stage it first"
            )
        if staged is not None and not _is_of(staged, request.source):
            raise NotStaged(
                f"staging path {request.staging} has {staged.source} ({staged.fstype}) mounted, not "
                f"{request.source.volume}: unstage that first"
            )
        if staged is not None and staged.alive and request.staging not in self._repairs:
            return staged
        await self._revive(Stage(request.volume_id, request.source, request.staging), staged)
        staged = await self._mounter.inspect(request.staging)
        if staged is None or not staged.alive:
            raise MountFailed(f"the mount at {request.staging} went away again as soon as it was made")
        return staged

    async def _bind(self, request: Publish) -> None:
        """All or nothing. The staging mount has just answered, and this is another look at the same file system."""
        made = await self._mounter.make_directory(request.target)
        try:
            await self._mounter.bind(request.staging, request.target, request.options)
        except BaseException:
            with suppress(MountFailed):
                await self._mounter.unmount(request.target)
                if made:
                    await self._mounter.remove_directory(request.target)
            raise

    async def _unpublish(self, target: str) -> None:
        await self._repairs.drop(target)
        state = await self._mounter.inspect(target)
        if state is not None:
            _must_be_gluster(target, state)
            await self._mounter.unmount(target)
            _log.info("unpublished", source=state.source, target=target)
        await self._mounter.remove_directory(target)


def _staged(request: Stage) -> Staged:
    return Staged(request.volume_id, request.source, request.staging)


def _is_of(state: MountState, source: MountSource) -> bool:
    """The client names its mount by the first server that it was given, and there are several: the volume counts."""
    return state.fstype == _FSTYPE and state.source.rpartition(":/")[2] == source.volume


def _must_be_gluster(path: str, state: MountState) -> None:
    if state.fstype != _FSTYPE:
        raise Incoherent(
            f"{path} has {state.source} ({state.fstype}) mounted, which this driver did not mount: nothing was changed"
        )


def _must_agree(request: Publish, present: MountState, staged: MountState) -> None:
    """Raises: Conflict if what is at the target is not what is asked for."""
    if present.device != staged.device:
        raise Conflict("mount", request.target, f"{present.source} ({present.fstype}) of another client is there")
    there, asked = _DECIDED & set(present.options), _DECIDED & set(request.options)
    if there != asked:
        raise Conflict(
            "mount",
            request.target,
            f"mounted with {', '.join(sorted(there)) or 'no options'}, asked for {', '.join(sorted(asked)) or 'none'}",
        )


def _illness(volume_id: str, state: MountState) -> str:
    cause = "its client on this node has died" if state.dead else "it does not answer"
    return f"volume {volume_id} ({state.source}): {cause}: {state.reason}"

"""Copies of bricks of the ``lvm`` backend: thin snapshots, in the pool of their brick.

A copy is the inactive volume ``copy_ID``, which gets its tags in the change of metadata that makes it. A brick of a new
volume is a snapshot too, of a brick or of a copy. LVM holds the file system still for the moment of each, by itself:
nothing has to be let go. The pool goes when the last of all these goes, whichever that is.

Nothing that was promised can fail for want of room: before a snapshot is made its pool is enlarged until it can hold
what all in it may come to hold (hosts/lvmcopies.sh).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from csi.bricks import evidence, identity, lvmpaths, lvmreport, lvmtags
from csi.bricks.lvm import Look, LvmBackend, Texts
from csi.bricks.lvmerrors import Status
from csi.bricks.lvmreport import LogicalVolume, VolumeGroup
from csi.copyports import Copied, Filling, Flushed, FoundCopy, Hold, Pair
from csi.core import naming, sizes
from csi.core.command import Command, Result
from csi.core.copyidentity import CopyIdentity, PlacedCopy
from csi.core.errors import CannotCopy, CommandFailed, Incoherent
from csi.core.model import Backend, BrickId, BrickIdentity, Device, Host, PlacedBrick

Script = Callable[[Texts], list[Command]]


class LvmCopies(LvmBackend):
    """Bricks as thin volumes, and copies of them: ``ports.BrickBackend`` and ``copyports.BrickCopies``."""

    holds = False

    async def flush(self, host: Host, bricks: Sequence[PlacedBrick]) -> Flushed:
        flush = Command(("csi_lvm_flush", *map(lvmpaths.mount_point, bricks)))
        flushed, look = await self._run(host, [flush, *self._claimed((p.device for p in bricks), Look.AHEAD)])
        groups = lvmreport.read(look.stdout)
        taken = tuple(_footprint(_held(_find(groups, placed), placed.brick.size)) for placed in bricks)
        return Flushed(taken, quiet=flushed.stdout.strip() == "noted=no")

    async def copy(self, host: Host, pairs: Sequence[Pair], hold: Hold) -> Copied:
        bricks = [pair.brick for pair in pairs]
        new = [pair.target for pair in pairs if isinstance(pair.target, PlacedBrick)]
        kept = [pair.target for pair in pairs if isinstance(pair.target, PlacedCopy)]

        def script(texts: Texts) -> list[Command]:
            words = [word for p in pairs for word in (*lvmpaths.names(p.brick)[:2], *_said(p.target, texts))]
            return [
                *self._evidence([*bricks, *new], texts, Look.BACK),
                *_ours(kept, texts),
                Command(("csi_lvm_copy", "replace", *words)),
                Command(("date", "+%s.%N")),
            ]

        results = await self._snap(host, [*bricks, *new], kept, script)
        shares = [int(share) << 10 for share in results[-2].stdout.split()]
        return Copied(float(results[-1].stdout), tuple(map(_footprint, shares)))

    async def release(self, host: Host, bricks: Sequence[PlacedBrick], hold: Hold) -> bool:
        return True

    async def seal(self, host: Host, copies: Sequence[PlacedCopy]) -> tuple[int, ...]:
        """LVM has written them down when it says that they are made."""
        (look,) = await self._run(host, self._claimed(copy.device for copy in copies))
        groups = lvmreport.read(look.stdout)
        return tuple(_footprint(_share(_find(groups, copy))) for copy in copies)

    async def fill(self, host: Host, fillings: Sequence[Filling]) -> None:
        copies, bricks = [f.copy for f in fillings], [f.brick for f in fillings]

        def script(texts: Texts) -> list[Command]:
            words = [word for f in fillings for word in (*names(f.copy), *_said(f.brick, texts))]
            return [
                *self._evidence(bricks, texts),
                *_ours(copies, texts),
                Command(("csi_lvm_copy", "keep", *words)),
            ]

        await self._snap(host, bricks, copies, script)

    async def adopt(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        def script(texts: Texts) -> list[Command]:
            commands = self._evidence(bricks, texts)
            for placed in bricks:
                said = texts[placed.brick.id][1:]
                device, point = lvmpaths.block_device(placed), lvmpaths.mount_point(placed)
                commands += [
                    Command(("csi_brick_adopt", device, point, lvmpaths.MOUNT_OPTIONS, said[0])),
                    Command(("csi_lvm_mount", device, point, lvmpaths.MOUNT_OPTIONS)),
                    Command(("csi_brick_root", point, f"{placed.root_mode:04o}", str(placed.identity.gid), *said)),
                ]
            return commands

        await self._judge(host, bricks, script)

    async def verify_copies(self, host: Host, copies: Sequence[PlacedCopy]) -> None:
        await self._judge_both(host, (), copies, lambda texts: self._verified(copies, texts))

    async def destroy_copies(self, host: Host, copies: Sequence[PlacedCopy]) -> None:
        words = [word for copy in copies for word in (*names(copy), naming.thin_pool(copy.copy.id))]

        def script(texts: Texts) -> list[Command]:
            return [*self._verified(copies, texts), Command(("csi_lvm_remove", *words))]

        await self._judge_both(host, (), copies, script)

    async def find_copies(self, host: Host, devices: Sequence[Device]) -> tuple[FoundCopy, ...]:
        if not devices:
            return ()
        (look,) = await self._run(host, self._claimed(devices))
        groups = lvmreport.read(look.stdout)
        found = []
        for device in devices:
            group = groups[naming.volume_group(device.id)]
            for volume in group.volumes.values():
                one = lvmtags.read_copy(volume.tags)
                if one is not None and volume.name == naming.logical_copy(one.copy.id):
                    taken = _footprint(lvmtags.share(volume.tags) or volume.size)
                    found.append(FoundCopy(one, taken, lvmtags.moment(volume.tags)))
        return tuple(found)

    def _verified(self, copies: Sequence[PlacedCopy], texts: Texts) -> list[Command]:
        return [*self._claimed(copy.device for copy in copies), *_ours(copies, texts)]

    async def _snap(
        self, host: Host, bricks: Sequence[PlacedBrick], copies: Sequence[PlacedCopy], script: Script
    ) -> tuple[Result, ...]:
        """Run a script that makes snapshots, with the identities of both kinds judged."""
        try:
            return await self._judge_both(host, bricks, copies, script)
        except CommandFailed as failed:
            if failed.argv[0] != "csi_lvm_copy":
                raise
            raise CannotCopy(
                f"host {host.manage}: the bricks cannot be copied in their thin pools: {failed.stderr.strip()[-300:]}"
            ) from failed

    async def _judge_both(
        self, host: Host, bricks: Sequence[PlacedBrick], copies: Sequence[PlacedCopy], script: Script
    ) -> tuple[Result, ...]:
        """As ``_judge``, of copies too. Raises: Incoherent for one that is not ours."""
        known: dict[BrickId, BrickIdentity | CopyIdentity] = {p.brick.id: p.identity for p in bricks}
        known |= {c.copy.id: c.identity for c in copies}
        texts: dict[BrickId, list[str]] = {
            p.brick.id: [lvmtags.of_brick(p.identity), identity.write(p.identity)] for p in bricks
        }
        texts |= {c.copy.id: [lvmtags.of_copy(c.identity)] for c in copies}
        while True:
            try:
                return await self._run(host, script(texts))
            except CommandFailed as failed:
                if failed.status != Status.EVIDENCE or not failed.argv[0].startswith("csi_"):
                    raise
                path, _, said = failed.stderr.partition("\n")
                said = said.rstrip("\n")
                id_ = next((id_ for id_ in known if id_ in path), None)
                if id_ is None or said in texts[id_] or not _agrees(known[id_], said):
                    placed = next((p for p in bricks if p.brick.id == id_), None)
                    raise _incoherent(host, placed, path, said) from failed
                texts[id_].append(said)


def names(placed: PlacedCopy) -> tuple[str, str]:
    """Volume group and logical volume."""
    return naming.volume_group(placed.device.id), naming.logical_copy(placed.copy.id)


def _said(target: PlacedCopy | PlacedBrick, texts: Texts) -> tuple[str, str]:
    """The name of what is to be made, and its tags."""
    if isinstance(target, PlacedBrick):
        return lvmpaths.names(target)[1], texts[target.brick.id][0]
    return names(target)[1], texts[target.copy.id][0]


def _ours(copies: Sequence[PlacedCopy], texts: Texts) -> list[Command]:
    return [Command(("csi_lvm_copy_ours", *names(copy), *texts[copy.copy.id])) for copy in copies]


def _find(groups: dict[str, VolumeGroup], target: PlacedCopy | PlacedBrick) -> LogicalVolume:
    """Raises: CannotCopy if it is not there."""
    group, name = lvmpaths.names(target)[:2] if isinstance(target, PlacedBrick) else names(target)
    found = groups[group].volumes.get(name)
    if found is None:
        raise CannotCopy(f"host {target.host.manage}: logical volume {group}/{name} is not there")
    return found


def _held(volume: LogicalVolume, size: int) -> int:
    """Bytes that are in it: what LVM says is rounded to hundredths of a percent. All of it, if LVM doesn't know."""
    if volume.data_percent is None:
        return size
    return min(volume.size, int(volume.size * (volume.data_percent + 0.01) / 100))


def _share(volume: LogicalVolume) -> int:
    return lvmtags.share(volume.tags) or volume.size


def _footprint(share: int) -> int:
    """What a pool grows by for it at most, with the metadata."""
    return sizes.footprint(Backend.LVM, share, 1.0)


def _agrees(one: BrickIdentity | CopyIdentity, said: str) -> bool:
    if isinstance(one, CopyIdentity):
        copy = lvmtags.read_copy(said)
        return copy is not None and copy.owner() == one.owner()
    brick = lvmtags.read_brick(said) or identity.read_brick(said)
    return brick is not None and brick.owner() == one.owner()


def _incoherent(host: Host, placed: PlacedBrick | None, path: str, said: str) -> Incoherent:
    found = lvmtags.read_copy(said)
    if placed is not None or found is None:
        return evidence.incoherent(host, placed, path, said, lvmtags.read_brick(said) or identity.read_brick(said))
    return Incoherent(
        f"host {host.manage}: {path} says that it is of snapshot {found.snapshot_name!r} (instance {found.instance!r}, "
        f"volume {found.volume_name!r}), which is not what the record says; nothing was changed there"
    )

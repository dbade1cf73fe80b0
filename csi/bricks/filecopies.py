"""Copies of bricks of the ``file`` backend: images that share the blocks of theirs, on the same device.

A copy is ``ID.copy`` with its tag ``ID.copy-of`` beside it, which is there first and goes last. It has blocks of its
own from the moment at which its brick is written to; nothing of the two depends on the other, so a brick may be grown
or destroyed and its copies stay. A brick of a new volume is a copy too, of a brick or of a copy.

While a brick is frozen its image is not written to, and all that had been written is in it: that is when it is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from csi.bricks import filepaths, identity
from csi.bricks.file import DROPPED, EVIDENCE, FileBackend, Texts
from csi.copyports import Copied, Filling, Flushed, FoundCopy, Hold, Pair
from csi.core import naming
from csi.core.command import Command, Result
from csi.core.copyidentity import CopyIdentity, PlacedCopy
from csi.core.errors import CannotCopy, CommandFailed, Incoherent
from csi.core.model import BrickId, BrickIdentity, Device, Host, PlacedBrick

LATE = 78
CANNOT_SHARE = 79

Script = Callable[[Texts], list[Command]]


class FileCopies(FileBackend):
    """Bricks as images, and copies of them: ``ports.BrickBackend`` and ``copyports.BrickCopies``."""

    holds = True

    async def flush(self, host: Host, bricks: Sequence[PlacedBrick]) -> Flushed:
        places = [word for p in bricks for word in (filepaths.stem(p), filepaths.mount_point(p))]
        results = await self._run(
            host, (*self._claimed(p.device for p in bricks), Command(("csi_bricks_flush", *places)))
        )
        lines = results[-1].stdout.splitlines()
        return Flushed(_taken(lines[len(bricks) :]), quiet=set(lines[: len(bricks)]) == {"noted=no"})

    async def copy(self, host: Host, pairs: Sequence[Pair], hold: Hold) -> Copied:
        bricks = [pair.brick for pair in pairs]
        new = [pair.target for pair in pairs if isinstance(pair.target, PlacedBrick)]
        kept = [pair.target for pair in pairs if isinstance(pair.target, PlacedCopy)]
        freezes = [word for pair in pairs for word in (filepaths.mount_point(pair.brick), _tag(pair.target))]
        shares = [word for pair in pairs for word in (filepaths.image(pair.brick), _file(pair.target))]

        def script(texts: Texts) -> list[Command]:
            return [
                *self._evidence(bricks, texts),
                *(Command(("csi_brick_tag", filepaths.stem(p), *texts[p.brick.id])) for p in new),
                *(Command(("csi_copy_tag", stem(c), *texts[c.copy.id])) for c in kept),
                Command(("csi_bricks_freeze", hold.name, f"{hold.bound:g}", *freezes)),
                Command(("csi_share", *shares)),
                Command(("date", "+%s.%N")),
            ]

        results = await self._share(host, [*bricks, *new], kept, script)
        return Copied(float(results[-1].stdout))

    async def release(self, host: Host, bricks: Sequence[PlacedBrick], hold: Hold) -> bool:
        points = map(filepaths.mount_point, bricks)
        # Not a word of the device here: what is frozen must thaw.
        (result,) = await self._run(host, [Command(("csi_bricks_thaw", hold.name, *points), ok=(0, LATE))])
        return result.status == 0

    async def seal(self, host: Host, copies: Sequence[PlacedCopy]) -> tuple[int, ...]:
        results = await self._run(host, [Command(("csi_copies_seal", *map(_file, copies)))])
        return _taken(results[-1].stdout.splitlines())

    async def fill(self, host: Host, fillings: Sequence[Filling]) -> None:
        copies, bricks = [f.copy for f in fillings], [f.brick for f in fillings]

        def script(texts: Texts) -> list[Command]:
            return [
                *self._claimed(p.device for p in bricks),
                *(Command(("csi_copy_ours", stem(c), *texts[c.copy.id])) for c in copies),
                *(Command(("csi_brick_tag", filepaths.stem(p), *texts[p.brick.id])) for p in bricks),
                *(Command(("csi_brick_fill", _file(f.copy), filepaths.stem(f.brick))) for f in fillings),
            ]

        await self._share(host, bricks, copies, script)

    async def adopt(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        def script(texts: Texts) -> list[Command]:
            commands = self._claimed(p.device for p in bricks)
            for placed in bricks:
                name, point, said = filepaths.stem(placed), filepaths.mount_point(placed), texts[placed.brick.id]
                commands += [
                    Command(("csi_brick_tag", name, *said)),
                    Command(("csi_brick_adopt", filepaths.image(placed), point, filepaths.MOUNT_OPTIONS, said[0])),
                    Command(("csi_brick_mount", name, point, filepaths.MOUNT_OPTIONS)),
                    Command(("csi_brick_root", point, f"{placed.root_mode:04o}", str(placed.identity.gid), *said)),
                ]
            return commands

        await self._judge(host, bricks, script)

    async def verify_copies(self, host: Host, copies: Sequence[PlacedCopy]) -> None:
        await self._judge_both(host, (), copies, lambda texts: self._ours(copies, texts))

    async def destroy_copies(self, host: Host, copies: Sequence[PlacedCopy]) -> None:
        def script(texts: Texts) -> list[Command]:
            return [
                *self._ours(copies, texts),
                Command(("rm", "-f", "--", *map(_file, copies))),
                # Not in one command with the copies: rm goes on after one that it can't remove.
                Command(("rm", "-f", "--", *map(_tag, copies))),
            ]

        await self._judge_both(host, (), copies, script)

    async def find_copies(self, host: Host, devices: Sequence[Device]) -> tuple[FoundCopy, ...]:
        found: list[FoundCopy] = []
        todo = [(device, "") for device in devices]
        while todo:
            looks = [look for device, prefix in todo for look in _looks(device, prefix)]
            results = await self._run(host, (*self._claimed(device for device, _ in todo), *looks))
            told = results[-len(looks) :]
            again: list[tuple[Device, str]] = []
            for (device, prefix), files, tags in zip(todo, told[::2], told[1::2], strict=True):
                if DROPPED.search(files.stdout) or DROPPED.search(tags.stdout):
                    again += [(device, prefix + digit) for digit in "0123456789abcdef"]
                else:
                    found += _found(device, files.stdout, tags.stdout)
            todo = again
        return tuple(found)

    def _ours(self, copies: Sequence[PlacedCopy], texts: Texts) -> list[Command]:
        ours = (Command(("csi_copy_ours", stem(copy), *texts[copy.copy.id])) for copy in copies)
        return [*self._claimed(copy.device for copy in copies), *ours]

    async def _share(
        self, host: Host, bricks: Sequence[PlacedBrick], copies: Sequence[PlacedCopy], script: Script
    ) -> tuple[Result, ...]:
        """Run a script that shares blocks, with the identities of both kinds judged."""
        try:
            return await self._judge_both(host, bricks, copies, script)
        except CommandFailed as failed:
            if failed.status != CANNOT_SHARE:
                raise
            raise CannotCopy(
                f"host {host.manage}: the bricks cannot be copied on their device: {failed.stderr.strip()[-300:]}; "
                "it must have room, and a file system that can share blocks: XFS made with reflink=1 (its default), "
                "or btrfs"
            ) from failed

    async def _judge_both(
        self, host: Host, bricks: Sequence[PlacedBrick], copies: Sequence[PlacedCopy], script: Script
    ) -> tuple[Result, ...]:
        """As ``_judge``, of copies too. Raises: Incoherent for one that is not ours."""
        known: list[tuple[BrickId, BrickIdentity | CopyIdentity]] = [(p.brick.id, p.identity) for p in bricks]
        known += [(c.copy.id, c.identity) for c in copies]
        texts: dict[BrickId, list[str]] = {id_: [identity.write(one)] for id_, one in known}
        while True:
            try:
                return await self._run(host, script(texts))
            except CommandFailed as failed:
                if failed.status != EVIDENCE or not failed.argv[0].startswith("csi_"):
                    raise
                path, _, said = failed.stderr.partition("\n")
                said = said.rstrip("\n")
                id_, one = next(((id_, one) for id_, one in known if id_ in path), (None, None))
                if id_ is None or one is None or not _agrees(one, said) or said in texts[id_]:
                    raise _incoherent(host, one, path, said) from failed
                texts[id_].append(said)


def stem(placed: PlacedCopy) -> str:
    """What the names of a copy's files on its device begin with: STEM.copy, STEM.copy-of."""
    return naming.brick_image(placed.device.path, placed.copy.id).removesuffix(".img")


def _file(target: PlacedCopy | PlacedBrick) -> str:
    return filepaths.image(target) if isinstance(target, PlacedBrick) else f"{stem(target)}.copy"


def _tag(target: PlacedCopy | PlacedBrick) -> str:
    return filepaths.tag(target) if isinstance(target, PlacedBrick) else f"{stem(target)}.copy-of"


def _looks(device: Device, prefix: str) -> tuple[Command, Command]:
    """At the copies whose ids begin so, and at their tags."""
    begin = ("find", device.path, "-maxdepth", "1", "-name")
    names = prefix or "[0-9a-f]"
    tags = ("-size", "+0", "-exec", "grep", "-h", "", "{}", "+")
    return (
        Command((*begin, f"{names}*.copy", "-printf", "%f %b %T@\\n")),
        Command((*begin, f"{names}*.copy-of", *tags), ok=(0, 1)),
    )


def _found(device: Device, files: str, tags: str) -> list[FoundCopy]:
    told = dict(line.split(" ", 1) for line in files.splitlines())
    found = []
    # Not ``splitlines``: a name may hold other characters that it takes for the end of a line.
    for one in map(identity.read_copy, tags.split("\n")):
        if one is not None and one.copy.device_id == device.id and (said := told.get(f"{one.copy.id}.copy")):
            blocks, moment = said.split(" ")
            found.append(FoundCopy(one, int(blocks) * 512, float(moment)))
    return found


def _taken(lines: Sequence[str]) -> tuple[int, ...]:
    """Of ``stat -c '%b %B'``: the bytes of each file."""
    return tuple(int(blocks) * int(size) for blocks, size in map(str.split, lines))


def _agrees(ours: BrickIdentity | CopyIdentity, text: str) -> bool:
    found = identity.read_brick(text) if isinstance(ours, BrickIdentity) else identity.read_copy(text)
    return found is not None and found.owner() == ours.owner()


def _incoherent(host: Host, ours: BrickIdentity | CopyIdentity | None, path: str, said: str) -> Incoherent:
    wanted = "us"
    if isinstance(ours, BrickIdentity):
        wanted = f"volume {ours.volume_name!r}"
    elif ours is not None:
        wanted = f"snapshot {ours.snapshot_name!r}"
    if (brick := identity.read_brick(said)) is not None:
        evidence = f"says volume {brick.volume_name!r} ({brick.volume_id}), instance {brick.instance!r}"
    elif (copy := identity.read_copy(said)) is not None:
        evidence = f"says snapshot {copy.snapshot_name!r} ({copy.snapshot_id}), instance {copy.instance!r}"
    else:
        evidence = f"holds no identity but {said[:120]!r}" if said else "is there without a tag that says whose it is"
    return Incoherent(
        f"host {host.manage}: {path} should belong to {wanted}, but {evidence}; nothing was changed there: put the "
        "right tag back, or remove it by hand"
    )

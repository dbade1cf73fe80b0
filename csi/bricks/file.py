"""The ``file`` backend: a device is a directory, a brick is a sparse image in it with an XFS, loop-mounted.

On the device lie, per brick, the tag ``ID.json`` (who the brick is) and the image ``ID.img``. Invariants, at
whatever point a script stops or the power goes:

- an image has a tag: the tag is written first, is on the disk before the image is there, and goes last;
- an image is whole: it gets its name when it is formatted, with the brick directory and ``brick.json`` in it;
- fstab is replaced as a whole.

Whether something on a host is ours is decided here, by ``BrickIdentity.owner``, never in the shell. The shell only
compares whole texts: each script carries the texts that were judged to be good. It stops at the first other one
and shows it; if that one is good too (a size has grown since it was written), the script runs again with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from csi.bricks import evidence, filepaths, identity
from csi.bricks.gathering import Gathering
from csi.core import naming, sizes
from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, Incoherent, InUse, InvalidRequest, Unavailable
from csi.core.model import Backend, BrickId, BrickIdentity, BrickRole, Device, Host, PlacedBrick
from csi.ports import BrickState, DeviceFacts, Runner

_log = structlog.get_logger(__name__)

# Statuses of the verbs (hosts/verbs.sh).
UNMARKED = 71
MARKED_OTHERWISE = 72
EVIDENCE = 73
BUSY = 74
OTHER_SIZE = 75
NOT_MOUNTED = 76

_NETWORKED = re.compile(r"nfs\d?|cifs|smb3|9p|ceph|fuse(\..*)?|afs|overlay|ramfs")
DROPPED = re.compile(r"\n\[\d+ more bytes dropped\]\n\Z")

Texts = Mapping[BrickId, Sequence[str]]


class FileBackend:
    """Bricks as images. ``allow_root_disk``: also on a device that is part of the root file system."""

    def __init__(
        self, runner: Runner, instance: str, fstab: str = "/etc/fstab", *, allow_root_disk: bool = False
    ) -> None:
        self._runner = runner
        self._instance = instance
        self._fstab = fstab
        self._allow_root_disk = allow_root_disk
        self._entries = Gathering(self._mount_at_boot)

    # --- devices ---

    async def check(self, host: Host, path: str, *, destroy: bool = False) -> DeviceFacts:
        filepaths.check_device_path(path)
        images = ("find", path, "-maxdepth", "1", "-name", "*.img", "-printf", "%b\\n")
        facts, space, used = await self._run(
            host,
            (
                Command(("csi_device_facts", path)),
                Command(("df", "-B1", "--output=target,fstype,avail", "--", path), ok=(0, 1)),
                Command(images, ok=(0, 1)),
            ),
        )
        lines = [line.split("=", 1) for line in facts.stdout.splitlines()]
        kind = next(value for name, value in lines if name == "kind")
        filepaths.check_kind(host, path, kind)
        missing = [value for name, value in lines if name == "missing"]
        if missing:
            raise InvalidRequest("device", path, f"host {host.manage} lacks {', '.join(missing)}: install it first")
        rows = space.stdout.splitlines()
        if space.status != 0 or len(rows) != 2:
            raise InvalidRequest("device", path, f"its file system cannot be read: {space.stderr.strip()}")
        target, fstype, available = rows[1].rsplit(None, 2)
        if target == "/" and not self._allow_root_disk:
            raise InvalidRequest(
                "device", path, f"it is on the root file system of host {host.manage}: mount a disk there first"
            )
        if _NETWORKED.fullmatch(fstype):
            raise InvalidRequest("device", path, f"it is on {fstype}: give a directory on a local disk, best XFS")
        own = sum(int(blocks) * 512 for blocks in used.stdout.split())
        # The file system needs some for the maps of the images; 1 % is ample.
        total = (int(available) + own) * 99 // 100 // 4096 * 4096
        if total < sizes.XFS_MINIMUM:
            raise InvalidRequest("device", path, f"it has {total} bytes for bricks; {sizes.XFS_MINIMUM} is the least")
        return DeviceFacts(Backend.FILE, total)

    async def claim(self, host: Host, device: Device, instance: str, *, destroy: bool = False) -> None:
        filepaths.check_device_path(device.path)
        mark = identity.write(identity.DeviceMark(instance, device.id))
        try:
            await self._run(
                host,
                (
                    Command(("csi_device_claim", _mark_path(device), mark)),
                    Command(("mkdir", "-p", "--", f"{naming.BRICK_ROOT}/{device.id}")),
                ),
            )
        except CommandFailed as failed:
            if failed.argv[0] == "csi_device_claim" and failed.status == MARKED_OTHERWISE:
                raise InUse(
                    f"device {device.path} of host {host.manage} carries {_mark_told(failed.stderr)}: remove it there "
                    f"first, or remove {_mark_path(device)} by hand if nothing on it is needed"
                ) from failed
            raise

    # --- bricks ---

    async def create(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        def script(texts: Texts) -> list[Command]:
            commands = self._claimed(p.device for p in bricks)
            for placed in bricks:
                commands += _make(placed, texts[placed.brick.id])
            return commands

        if not bricks:
            return
        for result in await self._judge(host, bricks, script):
            if result.stderr.strip():
                _log.warning("brick made with a remark", host=host.manage, remark=result.stderr.strip()[-500:])

    async def mount_at_boot(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        if bricks:
            await self._entries.add(host, bricks)

    async def _mount_at_boot(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        commands = (
            *self._claimed(p.device for p in bricks),
            Command(("csi_fstab", self._fstab, *map(filepaths.fstab_line, bricks))),
            Command(("csi_brick_sweep", *map(filepaths.stem, bricks))),
        )
        await self._run(host, commands)

    async def grow(self, host: Host, bricks: Sequence[PlacedBrick], were: Sequence[PlacedBrick] = ()) -> None:
        def script(texts: Texts) -> list[Command]:
            return [*self._claimed(p.device for p in bricks), *(_grow(p, texts[p.brick.id]) for p in bricks)]

        if bricks:
            await self._judge(host, bricks, script, were)

    async def destroy(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        def script(texts: Texts) -> list[Command]:
            return [
                *self._evidence(bricks, texts),
                Command(("csi_brick_unmount", *points)),
                Command(("csi_fstab", self._fstab, *points)),
                Command(("csi_brick_unpoint", *points)),
                Command(("rm", "-f", "--", *map(filepaths.image, bricks))),
                Command(("csi_brick_sweep", *map(filepaths.stem, bricks))),
                # Not in one command with the images: rm goes on after one that it can't remove.
                Command(("rm", "-f", "--", *map(filepaths.tag, bricks))),
            ]

        if not bricks:
            return
        points = [filepaths.mount_point(placed) for placed in bricks]
        await self._judge(host, bricks, script)

    async def verify(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        if bricks:
            await self._judge(host, bricks, lambda texts: self._evidence(bricks, texts))

    async def inspect(self, host: Host, bricks: Sequence[PlacedBrick]) -> tuple[BrickState, ...]:
        if not bricks:
            return ()
        images = [filepaths.image(p) for p in bricks]
        files = [path for p in bricks for path in (filepaths.tag(p), naming.brick_identity(p.device.id, p.brick.id))]
        places = [f" {filepaths.mount_point(p)} " for p in bricks]
        patterns = [word for place in places for word in ("-e", place)]
        results = await self._run(
            host,
            (
                *self._claimed(p.device for p in bricks),
                Command(("stat", "-c", "%F:%s:%n", "--", *images, *(p.brick.path for p in bricks)), ok=(0, 1)),
                Command(("grep", "-F", *patterns, "/proc/self/mountinfo"), ok=(0, 1)),
                Command(("grep", "-H", "-s", "-e", "", "--", *files), ok=(0, 1, 2)),
            ),
        )
        stats, mounts, texts = (result.stdout for result in results[-3:])
        found = {name: (kind, int(size)) for kind, size, name in (x.split(":", 2) for x in stats.splitlines())}
        mounted = {line.split(" ")[4] for line in mounts.splitlines()}
        said = _by_file(texts, files)
        return tuple(_state(placed, found, mounted, said) for placed in bricks)

    async def find(self, host: Host, devices: Sequence[Device]) -> tuple[BrickIdentity, ...]:
        found: list[BrickIdentity] = []
        todo = [(device, "") for device in devices]
        while todo:
            results = await self._run(
                host, (*self._claimed(d for d, _ in todo), *(Command(_tags_command(d, p), ok=(0, 1)) for d, p in todo))
            )
            again: list[tuple[Device, str]] = []
            for (device, prefix), result in zip(todo, results[-len(todo) :], strict=True):
                if DROPPED.search(result.stdout):
                    # More than a runner keeps of one command's output: ask in sixteen parts.
                    again += [(device, prefix + digit) for digit in "0123456789abcdef"]
                else:
                    found += _identities(host, device, result.stdout)
            todo = again
        return tuple(found)

    # --- how scripts are run ---

    def _evidence(self, bricks: Sequence[PlacedBrick], texts: Texts) -> list[Command]:
        """What destruction begins with. The shell does it by itself: it costs the host next to nothing."""
        ours = (("csi_brick_ours", filepaths.stem(p), filepaths.mount_point(p), *texts[p.brick.id]) for p in bricks)
        return [*self._claimed(p.device for p in bricks), *(Command(words) for words in ours)]

    def _claimed(self, devices: Iterable[Device]) -> list[Command]:
        """The mark of each device is looked at before anything else."""
        distinct = {device.id: device for device in devices}
        marks = ((_mark_path(d), identity.write(identity.DeviceMark(self._instance, d.id))) for d in distinct.values())
        return [Command(("csi_device_claimed", *words)) for words in marks]

    async def _run(self, host: Host, commands: Sequence[Command]) -> tuple[Result, ...]:
        try:
            return await self._runner.run(host, Script(tuple(commands), timeout=60 + len(commands)))
        except CommandFailed as failed:
            _explain(host, failed)
            raise

    async def _judge(
        self,
        host: Host,
        bricks: Sequence[PlacedBrick],
        script: Callable[[Texts], list[Command]],
        were: Sequence[PlacedBrick] = (),
    ) -> tuple[Result, ...]:
        """Run a script that compares identities; judge each one that it did not know.

        Raises: Incoherent for one that is not ours.
        """
        texts = {placed.brick.id: [identity.write(placed.identity)] for placed in bricks}
        for placed in were:
            texts[placed.brick.id].append(identity.write(placed.identity))
        while True:
            try:
                return await self._run(host, script(texts))
            except CommandFailed as failed:
                if failed.status != EVIDENCE or not failed.argv[0].startswith("csi_"):
                    raise
                path, _, said = failed.stderr.partition("\n")
                shown = next((p for p in bricks if p.brick.id in path), None)
                said = said.rstrip("\n")
                if shown is None or not _agrees(shown, said) or said in texts[shown.brick.id]:
                    raise evidence.incoherent(host, shown, path, said) from failed
                texts[shown.brick.id].append(said)


def _make(placed: PlacedBrick, texts: Sequence[str]) -> list[Command]:
    """One brick, up to its mount."""
    brick, stem, mount = placed.brick, filepaths.stem(placed), filepaths.mount_point(placed)
    mode, gid = placed.root_mode, str(placed.identity.gid)
    proto = f"d{'u' if mode & 0o4000 else '-'}{'g' if mode & 0o2000 else '-'}{mode & 0o777:03o}"
    # As Heketi makes them: an arbiter's brick may be all inodes. But without reflink: copies are made of the whole
    # image, and the maps for copies inside it would take 0.6 % of the space.
    inodes = "maxpct=100" if brick.role is BrickRole.ARBITER else "size=512"
    commands = [
        Command(("csi_brick_tag", stem, *texts)),
        Command(
            ("csi_brick_format", stem, str(brick.size), proto, gid, "-m", "reflink=0", "-i", inodes, "-n", "size=8192")
        ),
        Command(("csi_brick_mount", stem, mount, filepaths.MOUNT_OPTIONS)),
        Command(("csi_brick_root", mount, f"{mode:04o}", gid, *texts)),
    ]
    if mode & 0o1000:
        # A prototype file can't say it.
        commands.append(Command(("chmod", "+t", "--", brick.path)))
    return commands


def _grow(placed: PlacedBrick, texts: Sequence[str]) -> Command:
    size = str(placed.brick.size)
    return Command(("csi_brick_grow", filepaths.stem(placed), filepaths.mount_point(placed), size, *texts))


def _lines(text: str) -> list[str]:
    """Not ``splitlines``: a volume's name may hold other characters that it takes for the end of a line."""
    return text.removesuffix("\n").split("\n") if text else []


def _tags_command(device: Device, prefix: str) -> tuple[str, ...]:
    names = (prefix or "[0-9a-f]") + "*.json"
    return ("find", device.path, "-maxdepth", "1", "-name", names, "-size", "+0", "-exec", "grep", "-h", "", "{}", "+")


def _identities(host: Host, device: Device, text: str) -> list[BrickIdentity]:
    found = []
    for line in _lines(text):
        one = identity.read_brick(line)
        if one is None:
            _log.warning("unreadable brick identity", host=host.manage, device=device.path, text=line[:200])
        else:
            found.append(one)
    return found


def _by_file(text: str, files: Sequence[str]) -> dict[str, str]:
    """The first line of each file, as ``grep -H`` printed them: FILE:LINE, in the order of the files."""
    said: dict[str, str] = {}
    lines = iter(_lines(text))
    line = next(lines, "")
    for path in files:
        while line.startswith(path + ":"):
            said.setdefault(path, line[len(path) + 1 :])
            line = next(lines, "")
    return said


def _state(
    placed: PlacedBrick, found: Mapping[str, tuple[str, int]], mounted: set[str], said: Mapping[str, str]
) -> BrickState:
    brick = placed.brick
    files = (naming.brick_identity(placed.device.id, brick.id), filepaths.tag(placed))
    identities = [one for path in files if path in said and (one := identity.read_brick(said[path])) is not None]
    # Of two that differ the one that speaks against the record counts.
    against = [one for one in identities if one.owner() != placed.identity.owner()]
    _, size = found.get(filepaths.image(placed), ("", 0))
    return BrickState(
        image=filepaths.image(placed) in found,
        mounted=filepaths.mount_point(placed) in mounted,
        directory=found.get(brick.path, ("", 0))[0] == "directory",
        identity=next(iter([*against, *identities]), None),
        size=size,
    )


def _agrees(placed: PlacedBrick, text: str) -> bool:
    found = identity.read_brick(text)
    return found is not None and found.owner() == placed.identity.owner()


def _mark_path(device: Device) -> str:
    return f"{device.path.rstrip('/')}/{identity.DEVICE_MARK}"


def _mark_told(text: str) -> str:
    mark = identity.read_mark(text)
    return f"the mark of instance {mark.instance!r}, device {mark.device}" if mark else f"a strange mark {text[:120]!r}"


def _explain(host: Host, failed: CommandFailed) -> None:
    """The one table from the verbs' statuses to errors. Returns if the status is not in it."""
    if not failed.argv[0].startswith("csi_"):
        return
    path = failed.argv[1] if len(failed.argv) > 1 else ""
    if failed.argv[0] == "csi_device_claimed":
        device = path.removesuffix("/" + identity.DEVICE_MARK)
        if failed.status == UNMARKED:
            raise Unavailable(
                f"device {device} of host {host.manage} is not mounted or not claimed: it has no "
                f"{identity.DEVICE_MARK}; mount it, or load the topology again"
            ) from failed
        if failed.status == MARKED_OTHERWISE:
            raise Unavailable(
                f"device {device} of host {host.manage} carries {_mark_told(failed.stderr)}, not ours: another disk is "
                f"mounted there, or two installations use it"
            ) from failed
    if failed.status == BUSY:
        raise Unavailable(
            f"host {host.manage}: a brick is still in use and cannot be unmounted: {failed.stderr.strip()[-300:]}; "
            f"end these processes and it will be tried again"
        ) from failed
    if failed.status == NOT_MOUNTED:
        raise Unavailable(
            f"host {host.manage}: the brick at {failed.stderr.strip()} is not mounted: mount it (`mount -a`), start it"
        ) from failed
    if failed.status == OTHER_SIZE:
        raise Incoherent(
            f"host {host.manage}: {failed.stderr.strip()}, the record says {failed.argv[2]}; nothing was changed"
        ) from failed

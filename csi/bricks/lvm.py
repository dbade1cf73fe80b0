"""The ``lvm`` backend: a device is a volume group, a brick is a thin volume with a pool of its own and an XFS in it.

Names, sizes and options are Heketi's, so that its bricks and ours are handled alike. Invariants, at whatever point a
script stops or the power goes:

- a volume of ours says whose it is: its pool gets the tags in the change of metadata that makes it;
- a file system is whole, or marked as unfinished: mkfs.xfs does that;
- fstab is replaced as a whole, and a line goes before its volume does.

As in the ``file`` backend the shell compares whole texts only: what is ours is told here by ``BrickIdentity.owner``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import structlog

from csi.bricks import evidence, identity, lvmerrors, lvmpaths, lvmpools, lvmreport, lvmtags
from csi.bricks.gathering import Gathering
from csi.bricks.identity import DeviceMark
from csi.bricks.lvmreport import VolumeGroup
from csi.core import naming, sizes
from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, InvalidRequest
from csi.core.model import Backend, BrickId, BrickIdentity, Device, Host, PlacedBrick, PoolSize
from csi.core.pools import GroupFullness
from csi.ports import BrickState, DeviceFacts, Runner

_log = structlog.get_logger(__name__)

_EXTENT = 4 << 20
_START = 134479872  # of the first extent, behind 128 MiB of metadata

Texts = Mapping[BrickId, Sequence[str]]


class Look(StrEnum):
    """How a script comes to know what there is. It costs LVM 50 ms and more."""

    NOW = "csi_lvm_look"
    AHEAD = "csi_lvm_look_ahead"  # so that a script that follows in a moment may go on with it:
    BACK = "csi_lvm_look_back"  # never for what destroys bricks or copies: others may have changed something since


class LvmBackend:
    """Bricks as thin volumes."""

    def __init__(self, runner: Runner, instance: str, fstab: str = "/etc/fstab") -> None:
        self._runner = runner
        self._instance = instance
        self._fstab = fstab
        self._entries = Gathering(self._mount_at_boot)
        # Many at once share one call of LVM, which has one lock for the whole volume group.
        self._ending = Gathering(self._destroy)

    # --- devices ---

    async def check(self, host: Host, path: str, *, destroy: bool = False) -> DeviceFacts:
        lvmpaths.check_device_path(path)
        (facts,) = await self._run(host, [Command(("csi_lvm_facts", path))])
        pairs = [line.split("=", 1) for line in facts.stdout.splitlines() if "=" in line]
        said = {name: [value for key, value in pairs if key == name] for name, _ in pairs}
        lvmerrors.check_facts(host, path, said)
        extents = (int(said["size"][0]) - _START) // _EXTENT
        mark = DeviceMark(self._instance, naming.device_id(host.id, path))
        if said.get("signature"):
            group, tags, count = (*said.get("group", [""])[0].split("|"), "", "")[:3]
            if lvmtags.read_mark(tags) == mark:
                extents = int(count)
            elif group or said["signature"] != ["LVM2_member"]:
                lvmerrors.refuse_contents(host, path, said["signature"], group, tags, destroy=destroy)
        total = sizes.device_capacity(Backend.LVM, extents * _EXTENT)
        if total < sizes.footprint(Backend.LVM, sizes.XFS_MINIMUM, 1.0):
            raise InvalidRequest("device", path, f"it has {total} bytes for bricks, too few for the smallest")
        return DeviceFacts(Backend.LVM, total)

    async def claim(self, host: Host, device: Device, instance: str, *, destroy: bool = False) -> None:
        lvmpaths.check_device_path(device.path)
        mark = lvmtags.of_device(DeviceMark(instance, device.id))
        group = naming.volume_group(device.id)
        try:
            commands = [
                Command(("csi_lvm_claim", device.path, group, mark, "yes" if destroy else "no")),
                Command(("mkdir", "-p", "--", f"{naming.LVM_BRICK_ROOT}/{group}")),
            ]
            await self._run(host, commands, seconds=300)
        except CommandFailed as failed:
            lvmerrors.explain_claim(host, device, failed)
            raise

    async def give_back(self, host: Host, device: Device) -> None:
        mark = lvmtags.of_device(DeviceMark(self._instance, device.id))
        await self._run(host, [Command(("csi_lvm_release", device.path, naming.volume_group(device.id), mark))])

    async def take_over(self, host: Host, device: Device, bricks: Sequence[PlacedBrick]) -> None:
        """What Heketi made, and keeps mounted, is ours from now on: it gets our mark and the identities of the bricks.

        Raises: Incoherent if anybody's tags are there already, Unavailable if a brick is not mounted.
        """
        words = [naming.volume_group(device.id), lvmtags.of_device(DeviceMark(self._instance, device.id))]
        for placed in bricks:
            words += [lvmpaths.names(placed)[1], lvmtags.of_brick(placed.identity)]
            words += [lvmpaths.mount_point(placed), identity.write(placed.identity)]
        try:
            await self._run(host, [Command(("csi_lvm_take_over", *words))])
        except CommandFailed as failed:
            if failed.status == lvmerrors.Status.EVIDENCE:
                path, _, said = failed.stderr.partition("\n")
                placed_there = next((p for p in bricks if p.brick.id in path), None)
                raise evidence.incoherent(host, placed_there, path, said.strip(), lvmtags.read_brick(said)) from failed
            raise

    async def survey(self, host: Host) -> tuple[VolumeGroup, ...]:
        """All volume groups of the host that are named as a device's, ours and Heketi's, with their volumes."""
        (look,) = await self._run(host, [Command(("csi_lvm_look",))])
        groups = lvmreport.read(look.stdout).values()
        return tuple(group for group in groups if naming.is_id(group.name.removeprefix("vg_")))

    # --- bricks ---

    async def create(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        def script(texts: Texts) -> list[Command]:
            return [*self._evidence(bricks, texts), *(c for p in bricks for c in _make(p, texts[p.brick.id]))]

        if bricks:
            await self._judge(host, bricks, script)

    async def mount_at_boot(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        if bricks:
            await self._entries.add(host, bricks)

    async def _mount_at_boot(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        await self._run(host, [Command(("csi_fstab", self._fstab, *map(lvmpaths.fstab_line, bricks)))])

    async def grow(self, host: Host, bricks: Sequence[PlacedBrick], were: Sequence[PlacedBrick] = ()) -> None:
        def script(texts: Texts) -> list[Command]:
            return [*self._evidence(bricks, texts), *map(_grow, bricks)]

        if bricks:
            await self._judge(host, bricks, script, were)

    async def extend_pools(self, host: Host, bricks: Sequence[PlacedBrick], wanted: Sequence[PoolSize]) -> None:
        def script(texts: Texts) -> list[Command]:
            extensions = map(_extend, bricks, wanted)
            return [*self._evidence(bricks, texts), *extensions]

        await self._judge(host, bricks, script)

    async def destroy(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        if bricks:
            await self._ending.add(host, bricks)

    async def _destroy(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        points = [lvmpaths.mount_point(placed) for placed in bricks]

        def script(texts: Texts) -> list[Command]:
            return [
                *self._evidence(bricks, texts),
                Command(("csi_brick_unmount", *points)),
                Command(("csi_fstab", self._fstab, *points)),
                Command(("csi_brick_unpoint", *points)),
                Command(("csi_lvm_remove", *(name for placed in bricks for name in lvmpaths.names(placed)))),
            ]

        await self._judge(host, bricks, script)

    async def verify(self, host: Host, bricks: Sequence[PlacedBrick]) -> None:
        if bricks:
            await self._judge(host, bricks, lambda texts: self._evidence(bricks, texts))

    async def inspect(self, host: Host, bricks: Sequence[PlacedBrick]) -> tuple[BrickState, ...]:
        if not bricks:
            return ()
        files = [lvmpaths.identity_file(placed) for placed in bricks]
        patterns = [word for placed in bricks for word in ("-e", f" {lvmpaths.mount_point(placed)} ")]
        look, stats, mounts, texts = await self._run(
            host,
            [
                *self._claimed(placed.device for placed in bricks),
                Command(("stat", "-c", "%F:%s:%n", "--", *(placed.brick.path for placed in bricks)), ok=(0, 1)),
                Command(("grep", "-F", *patterns, "/proc/self/mountinfo"), ok=(0, 1)),
                Command(("grep", "-H", "-s", "-e", "", "--", *files), ok=(0, 1, 2)),
            ],
        )
        groups = lvmreport.read(look.stdout)
        directories = {line.split(":", 2)[2] for line in stats.stdout.splitlines() if line.startswith("directory:")}
        mounted = {line.split(" ")[4] for line in mounts.stdout.splitlines()}
        said = dict(line.partition(":")[::2] for line in reversed(texts.stdout.split("\n")))
        return tuple(_state(placed, groups, directories, mounted, said) for placed in bricks)

    async def find(self, host: Host, devices: Sequence[Device]) -> tuple[BrickIdentity, ...]:
        if not devices:
            return ()
        (look,) = await self._run(host, self._claimed(devices))
        found: dict[BrickId, BrickIdentity] = {}
        for group in lvmreport.read(look.stdout).values():
            for volume in group.volumes.values():
                if (one := lvmtags.read_brick(group.tags_of(volume))) is not None:
                    found[one.brick.id] = one
                elif volume.name.startswith("brick_"):
                    _log.warning("a brick without an identity", host=host.manage, volume=f"{group.name}/{volume.name}")
        return tuple(found.values())

    async def fullness(self, host: Host, devices: Sequence[Device]) -> tuple[GroupFullness, ...]:
        (look,) = await self._run(host, self._claimed(devices))
        groups = lvmreport.read(look.stdout)
        return tuple(lvmpools.fullness(device.id, groups[naming.volume_group(device.id)]) for device in devices)

    # --- how scripts are run ---

    def _claimed(self, devices: Iterable[Device], look: Look = Look.NOW) -> list[Command]:
        """LVM is looked at first, once; each volume group must carry our mark."""
        distinct = {device.id: device for device in devices}.values()
        marks = [
            word
            for device in distinct
            for word in (
                naming.volume_group(device.id),
                lvmtags.of_device(DeviceMark(self._instance, device.id)),
            )
        ]
        return [Command((look, *marks))]

    def _evidence(self, bricks: Sequence[PlacedBrick], texts: Texts, look: Look = Look.NOW) -> list[Command]:
        ours = (
            ("csi_lvm_ours", *lvmpaths.names(placed), lvmpaths.mount_point(placed), *texts[placed.brick.id])
            for placed in bricks
        )
        return [*self._claimed((placed.device for placed in bricks), look), *map(Command, ours)]

    async def _run(self, host: Host, commands: Sequence[Command], seconds: float = 60) -> tuple[Result, ...]:
        try:
            return await self._runner.run(host, Script(tuple(commands), timeout=seconds + 10 * len(commands)))
        except CommandFailed as failed:
            lvmerrors.explain(host, failed)
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
        texts = {p.brick.id: _said(p) for p in bricks}
        for placed in were:
            texts[placed.brick.id] += _said(placed)
        while True:
            try:
                return await self._run(host, script(texts))
            except CommandFailed as failed:
                if failed.status != lvmerrors.Status.EVIDENCE or not failed.argv[0].startswith("csi_"):
                    raise
                path, _, said = failed.stderr.partition("\n")
                shown = next((p for p in bricks if p.brick.id in path), None)
                said = said.rstrip("\n")
                found = lvmtags.read_brick(said) or identity.read_brick(said)
                if (
                    shown is None
                    or found is None
                    or found.owner() != shown.identity.owner()
                    or said in texts[shown.brick.id]
                ):
                    raise evidence.incoherent(host, shown, path, said, found) from failed
                texts[shown.brick.id].append(said)


def _said(placed: PlacedBrick) -> list[str]:
    """Its identity as tags, and as text."""
    return [lvmtags.of_brick(placed.identity), identity.write(placed.identity)]


def _make(placed: PlacedBrick, texts: Sequence[str]) -> list[Command]:
    """One brick, up to its mount. ``texts``: the tags and the JSON of its identity, then older ones."""
    mode, gid = placed.root_mode, str(placed.identity.gid)
    proto = f"d{'u' if mode & 0o4000 else '-'}{'g' if mode & 0o2000 else '-'}{mode & 0o777:03o}"
    device, mount = lvmpaths.block_device(placed), lvmpaths.mount_point(placed)
    commands = [
        Command(("csi_lvm_make", *lvmpaths.names(placed), texts[0], *lvmpaths.kibibytes(placed))),
        Command(("csi_lvm_format", device, proto, gid, texts[1], *lvmpaths.format_options(placed))),
        Command(("csi_lvm_mount", device, mount, lvmpaths.MOUNT_OPTIONS)),
        Command(("csi_brick_root", mount, f"{mode:04o}", gid, *texts[1:])),
    ]
    if mode & 0o1000:
        # A prototype file can't say it.
        commands.append(Command(("chmod", "+t", "--", placed.brick.path)))
    return commands


def _grow(placed: PlacedBrick) -> Command:
    sized = (*lvmpaths.kibibytes(placed), lvmpaths.mount_point(placed))
    return Command(("csi_lvm_grow", *lvmpaths.names(placed), *_said(placed), *sized))


def _extend(placed: PlacedBrick, pool: PoolSize) -> Command:
    sized = (str(pool.metadata >> 10), str(pool.data >> 10), lvmpaths.mount_point(placed))
    return Command(("csi_lvm_extend_pool", *lvmpaths.names(placed)[:2], *_said(placed), *sized))


def _state(
    placed: PlacedBrick,
    groups: Mapping[str, VolumeGroup],
    directories: set[str],
    mounted: set[str],
    said: Mapping[str, str],
) -> BrickState:
    group, name, _ = lvmpaths.names(placed)
    volume = groups[group].volumes.get(name) if group in groups else None
    tags = groups[group].tags_of(volume) if volume is not None else ""
    read = (lvmtags.read_brick(tags), identity.read_brick(said.get(lvmpaths.identity_file(placed), "")))
    identities = [one for one in read if one is not None]
    # Of two that differ the one that speaks against the record counts.
    against = [one for one in identities if one.owner() != placed.identity.owner()]
    return BrickState(
        image=volume is not None,
        mounted=lvmpaths.mount_point(placed) in mounted,
        directory=placed.brick.path in directories,
        identity=next(iter([*against, *identities]), None),
        size=volume.size if volume is not None else 0,
    )

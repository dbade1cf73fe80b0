"""The scripts of the file backend: what is in them and in which order; what they do is tried in tests/contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import structlog

from csi.bricks import identity
from csi.bricks.file import FileBackend
from csi.core import naming
from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, Incoherent, InvalidRequest
from csi.core.model import (
    Backend,
    Brick,
    BrickIdentity,
    BrickRole,
    ClusterId,
    Device,
    DeviceId,
    Gid,
    Host,
    HostId,
    PlacedBrick,
    VolumeSpec,
)
from csi.ports import Channel

HOST = Host(HostId("1" * 32), ClusterId("c" * 32), "h1", "10.0.0.1", 1)
DEVICE = Device(DeviceId("d" * 32), HOST.id, "/srv/d0", Backend.FILE, 1 << 40)


def placed(
    index: int = 0, *, role: BrickRole = BrickRole.DATA, mode: int = 0o2770, device: Device = DEVICE
) -> PlacedBrick:
    volume = naming.volume_id("pvc-1")
    brick_id = naming.brick_id(volume, 0, index)
    path = naming.brick_directory(device.id, brick_id)
    brick = Brick(brick_id, 0, index, HOST.id, device.id, 1 << 30, 1 << 30, path, role)
    who = BrickIdentity("i", volume, "pvc-1", "vol_1", HOST.cluster_id, 1 << 30, VolumeSpec(), Gid(2000), brick)
    return PlacedBrick(who, HOST, device, mode)


class Recorder:
    """A runner that keeps the scripts, and answers each command with what ``answer`` says."""

    def __init__(self, answer: Callable[[Command], Result] = lambda _: Result(0)) -> None:
        self.scripts: list[tuple[Command, ...]] = []
        self._answer = answer

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        self.scripts.append(script.commands)
        results = []
        for command in script.commands:
            results.append(self._answer(command))
            if results[-1].status not in command.ok:
                raise CommandFailed(host.manage, command.argv, results[-1].status, results[-1].stderr)
        return tuple(results)

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        raise AssertionError("no long-lived program is needed for bricks")

    async def close(self) -> None: ...

    def names(self) -> list[str]:
        return [command.argv[0] for command in self.scripts[-1]]


async def test_a_creation_is_one_round_trip_and_starts_with_the_marks() -> None:
    runner = Recorder()
    other = Device(DeviceId("e" * 32), HOST.id, "/srv/d1", Backend.FILE, 1 << 40)
    await FileBackend(runner, "i").create(HOST, [placed(0), placed(1), placed(2, device=other)])
    assert len(runner.scripts) == 1
    one_brick = ["csi_brick_tag", "csi_brick_format", "csi_brick_mount", "csi_brick_root"]
    assert runner.names() == ["csi_device_claimed"] * 2 + one_brick * 3


async def test_what_can_wait_until_gluster_is_at_work_is_a_round_trip_of_its_own() -> None:
    runner = Recorder()
    await FileBackend(runner, "i").mount_at_boot(HOST, [placed(0), placed(1)])
    assert len(runner.scripts) == 1
    assert runner.names() == ["csi_device_claimed", "csi_fstab", "csi_brick_sweep"]


async def test_a_destruction_looks_at_all_evidence_before_it_changes_anything_and_ends_with_the_tags() -> None:
    runner = Recorder()
    bricks = [placed(0), placed(1)]
    await FileBackend(runner, "i").destroy(HOST, bricks)
    names = runner.names()
    assert names[:3] == ["csi_device_claimed", "csi_brick_ours", "csi_brick_ours"]
    assert names[3:] == ["csi_brick_unmount", "csi_fstab", "csi_brick_unpoint", "rm", "csi_brick_sweep", "rm"]
    assert runner.scripts[0][-1].argv == ("rm", "-f", "--", *(f"/srv/d0/{p.brick.id}.json" for p in bricks))


@pytest.mark.parametrize(("role", "inodes"), [(BrickRole.DATA, "size=512"), (BrickRole.ARBITER, "maxpct=100")])
async def test_an_arbiter_may_be_all_inodes(role: BrickRole, inodes: str) -> None:
    runner = Recorder()
    await FileBackend(runner, "i").create(HOST, [placed(role=role)])
    (made,) = (command for command in runner.scripts[0] if command.argv[0] == "csi_brick_format")
    assert made.argv[-4:] == ("-i", inodes, "-n", "size=8192")


@pytest.mark.parametrize(
    ("mode", "proto", "sticky"),
    [(0o2770, "d-g770", False), (0o755, "d--755", False), (0o4007, "du-007", False), (0o3777, "d-g777", True)],
)
async def test_the_mode_is_told_to_mkfs(mode: int, proto: str, sticky: bool) -> None:
    runner = Recorder()
    await FileBackend(runner, "i").create(HOST, [placed(mode=mode)])
    (made,) = (command for command in runner.scripts[0] if command.argv[0] == "csi_brick_format")
    assert made.argv[3] == proto
    assert ("chmod" in runner.names()) is sticky


async def test_a_judged_text_is_asked_with_again_and_a_second_refusal_is_final() -> None:
    """A host that shows the same evidence for ever, or one text after another, must not keep us busy for ever."""
    brick = placed()
    text = identity.write(brick.identity)

    def same(command: Command) -> Result:
        if command.argv[0] == "csi_brick_ours":
            return Result(73, stderr=f"/srv/d0/{brick.brick.id}.json\n{text}\n")
        return Result(0)

    runner = Recorder(same)
    with pytest.raises(Incoherent, match=r"h1: /srv/d0/.*\.json should belong to brick"):
        await FileBackend(runner, "i").destroy(HOST, [brick])
    assert len(runner.scripts) == 1


async def test_find_asks_in_parts_when_the_answer_is_too_long() -> None:
    bricks = [placed(index) for index in range(300)]

    def answer(command: Command) -> Result:
        if command.argv[0] != "find":
            return Result(0)
        prefix = command.argv[5].removesuffix("*.json").removeprefix("[0-9a-f]")
        lines = [identity.write(p.identity) + "\n" for p in bricks if p.brick.id.startswith(prefix)]
        if len(lines) > 40:
            return Result(0, "".join(lines)[:20_000] + "\n[4711 more bytes dropped]\n")
        return Result(0, "".join(lines))

    runner = Recorder(answer)
    found = await FileBackend(runner, "i").find(HOST, [DEVICE])
    assert sorted(i.brick.index for i in found) == list(range(300))
    assert len(runner.scripts) == 2


async def test_a_remark_of_a_host_is_logged() -> None:
    def remark(command: Command) -> Result:
        return Result(0, stderr="chattr: not supported" if command.argv[0] == "csi_brick_mount" else "")

    with structlog.testing.capture_logs() as logs:
        await FileBackend(Recorder(remark), "i").create(HOST, [placed()])
    assert [(log["host"], log["remark"]) for log in logs] == [("h1", "chattr: not supported")]


async def test_other_failures_stay_as_they_are() -> None:
    def no_space(command: Command) -> Result:
        return Result(1, stderr="No space left on device") if command.argv[0] == "csi_brick_format" else Result(0)

    with pytest.raises(CommandFailed, match="No space left"):
        await FileBackend(Recorder(no_space), "i").create(HOST, [placed()])


# --- check ------------------------------------------------------------------------------------


def facts(
    kind: str = "directory",
    missing: str = "",
    *,
    target: str = "/srv/d0",
    fstype: str = "xfs",
    available: int = 100 << 30,
    images: str = "",
) -> Recorder:
    answers = {
        "csi_device_facts": Result(0, f"kind={kind}\n" + (f"missing={missing}\n" if missing else "")),
        "df": Result(0, f"Mounted on Type       Avail\n{target}    {fstype}  {available}\n"),
        "find": Result(0, images),
    }
    return Recorder(lambda command: answers[command.argv[0]])


async def test_what_our_own_images_take_counts_as_free_for_bricks() -> None:
    empty = await FileBackend(facts(), "i").check(HOST, "/srv/d0")
    used = await FileBackend(facts(available=99 << 30, images="1048576\n1048576\n"), "i").check(HOST, "/srv/d0")
    assert empty == used
    assert empty.total % 4096 == 0
    assert 0.98 < empty.total / (100 << 30) < 1


@pytest.mark.parametrize(
    ("runner", "reason"),
    [
        (facts("block"), "block device: name it by its path below /dev"),
        (facts("missing"), "no such directory on host h1"),
        (facts("other"), "not a directory"),
        (facts(missing="mkfs.xfs"), "host h1 lacks mkfs.xfs"),
        (facts(target="/"), "root file system of host h1"),
        (facts(fstype="nfs4"), "nfs4"),
        (facts(fstype="fuse.glusterfs"), "fuse.glusterfs"),
        (facts(available=1 << 20), "is the least"),
    ],
)
async def test_a_device_is_refused_with_reason_and_remedy(runner: Recorder, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await FileBackend(runner, "i").check(HOST, "/srv/d0")
    assert reason in str(caught.value)


async def test_a_bad_path_reaches_no_host() -> None:
    runner = facts()
    for call in (
        FileBackend(runner, "i").check(HOST, "/srv/$(reboot)"),
        FileBackend(runner, "i").claim(HOST, Device(DEVICE.id, HOST.id, "/srv/a b", Backend.FILE, 1), "i"),
    ):
        with pytest.raises(InvalidRequest):
            await call
    assert runner.scripts == []

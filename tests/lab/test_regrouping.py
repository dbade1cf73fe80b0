"""Restored volumes and clones with a group of their own, on real hosts: every file, and who may read it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from csi.core import naming
from csi.hosts import shell
from tests.driver import GIB, Client, Driver, capability
from tests.lab import Lab
from tests.lab.copies import TYPES, Contents, contents, copy, drop, mounted, take
from tests.lab.host import loops_on
from tests.lab.system import wait_for

pytestmark = pytest.mark.lab

OTHER = 3000
ANYBODY = 4711  # neither owner nor group of anything


def fill(root: Path) -> None:
    """What a pod leaves, and what is dear: links, directories that hand on their group, set-id bits."""
    gid = root.stat().st_gid
    for number in range(100):
        (root / f"file-{number}").write_bytes(os.urandom(700))
    (root / "large").write_bytes(os.urandom(13 << 20))  # of several shards, where there are some
    (root / "with\nline feed and 'quotes'").write_text("odd")
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    os.link(deep / "file", root / "hard")
    (root / "soft").symlink_to("a/b/file")
    (root / "outside").symlink_to("/etc/hostname")
    for name, mode in (("suid", 0o4755), ("sgid", 0o2755), ("both", 0o6711), ("lock", 0o2644), ("private", 0o600)):
        (root / name).write_text(name)
        (root / name).chmod(mode)
    os.link(root / "suid", root / "suid-again")
    plain = root / "plain"
    plain.mkdir(mode=0o750)
    os.chown(plain, 1000, gid)
    os.chown(plain, -1, gid)
    plain.chmod(0o750)
    for name in ("other", "other-directory"):
        (root / name).mkdir() if "directory" in name else (root / name).write_text(name)
        os.chown(root / name, 1000, OTHER)
    (root / "a").chmod(0o2775)
    (root / "file-8").chmod(0o660)
    (root / "file-7").chmod(0o640)
    subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)


def regrouped(found: Contents, old: int, new: int) -> Contents:
    return {name: (mode, new if gid == old else gid, what) for name, (mode, gid, what) in found.items()}


def allowed(root: Path, gid: int) -> bool:
    """Whether a process that has this group and nothing else can read and write what the volume's group may."""
    # Relative: the directories above are those of this test alone.
    script = "stat . && cat file-7 a/b/file >/dev/null && echo more >>file-8 && echo new >a/new"
    words = ["setpriv", "--reuid", str(ANYBODY), "--regid", str(ANYBODY), "--groups", str(gid), "sh", "-c", script]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or "Permission denied" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("kind", ["replicate", "arbiter", "disperse", "sharded"])
def test_every_file_has_the_new_group_and_nothing_else_changes(client: Client, tmp_path: Path, kind: str) -> None:
    parameters = {**TYPES[kind], "restoreGid": "new"}
    volume = client.create(f"pvc-{kind}", GIB, TYPES[kind])
    with mounted(client, volume, tmp_path) as root:
        fill(root)
        old = root.stat().st_gid
        assert allowed(root, old)
        assert not allowed(root, old + 1)
        before = contents(root)
        snapshot = take(client, "snapshot-1", volume)
    began = time.monotonic()
    made = [copy(client, "restored", snapshot, parameters), copy(client, "clone", volume, parameters)]
    print(f"\n{kind}: two volumes of {len(before)} files, {time.monotonic() - began:.2f} s")
    for one in made:
        with mounted(client, one, tmp_path) as root:
            new = root.stat().st_gid
            assert new != old
            assert contents(root) == regrouped(before, old, new)
            assert stat.S_IMODE(root.stat().st_mode) == 0o2770
            assert not subprocess.run(
                ["getfattr", "-R", "-d", "-m", "trusted.gluster-csi", str(root)], capture_output=True, check=True
            ).stdout
            assert not allowed(root, old)
            assert allowed(root, new)
            assert (root / "a" / "new").stat().st_gid == new
    with mounted(client, volume, tmp_path) as root:
        assert contents(root) == before
    for one in (*made, volume):
        client.delete(one.volume_id)
    drop(client, snapshot)


def asked(driver: Driver, request: pb.CreateVolumeRequest) -> pb.Volume | None:
    """None if it is to be asked again."""
    try:
        with driver.client() as client:
            return client.controller.CreateVolume(request, timeout=1.5).volume
    except grpc.RpcError as error:
        again = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE)
        if error.code() not in again:
            raise
        return None


@pytest.mark.timeout(400)
def test_many_files_take_longer_than_a_call_and_our_end_is_no_end(
    client: Client, driver: Driver, tmp_path: Path
) -> None:
    parameters = {**TYPES["replicate"], "restoreGid": "new"}
    volume = client.create("pvc-many", GIB, TYPES["replicate"])
    with mounted(client, volume, tmp_path) as root:
        for number in range(6):
            (root / f"d{number}").mkdir()
            for name in range(100):
                (root / f"d{number}" / f"{name}").write_bytes(b"")
        (root / "suid").write_text("")
        (root / "suid").chmod(0o4755)
        before, old = contents(root), root.stat().st_gid
    source = pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=volume.volume_id))
    request = pb.CreateVolumeRequest(
        name="copy",
        capacity_range=pb.CapacityRange(required_bytes=GIB),
        volume_capabilities=[capability()],
        parameters=parameters,
        volume_content_source=source,
    )
    tries, deadline = 0, time.monotonic() + 240
    made = None
    while made is None:
        tries += 1
        assert time.monotonic() < deadline
        time.sleep(0.2)
        if tries == 2:
            driver.stop(signal.SIGKILL)
            driver.start()
        made = asked(driver, request)
    print(f"\n{len(before)} files in {tries} calls of at most 1.5 s")
    with driver.client() as again, mounted(again, made, tmp_path) as root:
        assert contents(root) == regrouped(before, old, root.stat().st_gid)
    with driver.client() as again:
        for one in (made, volume):
            again.delete(one.volume_id)


def test_what_an_earlier_try_left_in_the_middle_is_set_right(client: Client, tmp_path: Path) -> None:
    """A file that has its new group and lost its set-id bits, as when a host died between the two."""
    volume = client.create("pvc-cut", GIB, TYPES["replicate"])
    with mounted(client, volume, tmp_path) as root:
        new = root.stat().st_gid + 1
        for name, group in (("cut", new), ("nearly", new - 1)):
            (root / name).write_text(name)
            os.chown(root / name, 0, group)
            (root / name).chmod(0o755)
            os.setxattr(root / name, "trusted.gluster-csi.mode", b"4755")
        (root / "nearly").chmod(0o4755)
        os.setxattr(root, "trusted.gluster-csi.regroup", b"1")
        subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)
    made = copy(client, "copy", volume, {**TYPES["replicate"], "restoreGid": "new"})
    with mounted(client, made, tmp_path) as root:
        for name in ("cut", "nearly"):
            told = (root / name).stat()
            assert (told.st_gid, stat.S_IMODE(told.st_mode)) == (new, 0o4755)
            assert "trusted.gluster-csi.mode" not in os.listxattr(root / name)
        assert "trusted.gluster-csi.regroup" not in os.listxattr(root)
    for one in (made, volume):
        client.delete(one.volume_id)


@pytest.mark.parametrize("volume", ["nowhere", "unknown"])
def test_nothing_stays_when_nobody_asks_any_more(clean_lab: Lab, volume: str) -> None:
    """It would try to mount that volume for half a minute, or is done at once; all goes after three seconds."""
    host = clean_lab.hosts[0]
    directory, lease = "/run/gluster-csi.regroup.nobody", "0.05"
    assert clean_lab.subnet is not None
    server = clean_lab.hosts[1].address if volume == "unknown" else str(clean_lab.subnet[250])
    call = f"csi_regroup {directory} {server} {volume} 2000 2001 0 {lease}"
    said = clean_lab.run(host, ["sh", "-c", f"{shell.prelude()}\n{call}"], check=False)
    assert said.stdout == "0 more\n"

    def gone() -> bool:
        there = clean_lab.run(host, ["ls", directory], check=False).returncode == 0
        runs = clean_lab.run(host, ["pgrep", "-f", "csi.regroup[.]nobody"], check=False).returncode == 0
        return not there and not runs

    wait_for("nothing of it", gone, 20)


def test_a_volume_can_be_removed_meanwhile(clean_lab: Lab, client: Client) -> None:
    """The work's own view of the mounts is a copy that no unmount reaches. But the bricks go from it with their mount
    points: the kernel takes from every view what is mounted on a directory that is removed."""
    host = clean_lab.hosts[0]
    volume = client.create("pvc-meanwhile", GIB, TYPES["replicate"])
    assert loops_on(host.disk, clean_lab.init_pid(host))
    assert clean_lab.subnet is not None
    directory = "/run/gluster-csi.regroup.meanwhile"
    words = (directory, clean_lab.subnet[250], "nowhere", 2000, 2001, 1, 2, naming.BRICK_ROOT, naming.LVM_BRICK_ROOT)
    said = clean_lab.run(host, ["sh", "-c", f"{shell.prelude()}\ncsi_regroup {' '.join(map(str, words))}"])
    assert said.stdout == "0 more\n"
    client.delete(volume.volume_id)
    try:
        wait_for("no brick", lambda: not loops_on(host.disk, clean_lab.init_pid(host)), 10)
        assert clean_lab.run(host, ["pgrep", "-f", f"volfile-id=nowhere {directory}"]).stdout
    finally:
        clean_lab.run(host, ["sh", "-c", f"{shell.prelude()}\ncsi_regroup_end {directory}"])

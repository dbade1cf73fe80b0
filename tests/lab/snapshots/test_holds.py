"""Writers that are held up while real hosts copy their volumes: what they had written, and if the driver dies then."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver
from tests.lab.copies import TYPES, copy, drop, drop_group, mounted, take, take_group

pytestmark = pytest.mark.lab


@dataclass
class Counter:
    """Makes files 0, 1, 2, ... in turn below ``roots``, each whole and on the disks before the next is begun.

    ``begun`` and ``acknowledged``: how many files, at any time.
    """

    roots: Sequence[Path]
    begun: int = 0
    acknowledged: int = 0
    longest: float = 0.0  # seconds that one took
    failed: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Counter:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            for number, root in zip(itertools.count(), itertools.cycle(self.roots), strict=False):
                if self._stop.is_set():
                    return
                began = time.monotonic()
                self.begun = number + 1
                with (root / f"{number:06d}").open("wb") as file:
                    file.write(b"%06d\n" % number * 20)
                    file.flush()
                    os.fsync(file.fileno())
                self.acknowledged = number + 1
                self.longest = max(self.longest, time.monotonic() - began)
                time.sleep(0.005)  # each file is read back from each copy, and others test beside this
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.failed = error

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.acknowledged < count:
            assert self.failed is None, self.failed
            assert time.monotonic() < deadline
            time.sleep(0.01)


def counted(roots: Sequence[Path]) -> int:
    """How many files there are, without a gap, each whole; the last one may be begun only."""
    there = sorted(int(path.name) for root in roots for path in root.iterdir() if path.name.isdecimal())
    assert there == list(range(len(there))), "a file is there, and one before it is not"
    for number in there:
        if read(roots[number % len(roots)] / f"{number:06d}") != b"%06d\n" % number * 20:
            assert number == len(there) - 1, f"file {number} is not whole, and a later one is there"
            return number
    return len(there)


def read(path: Path) -> bytes:
    """Nothing of a file that was on one brick only when the barrier came: until that is healed nobody can read it."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ENOENT):
            raise
        return b""


@pytest.mark.parametrize("kind", ["replicate", "arbiter", "disperse", "sharded"])
def test_every_write_that_was_acknowledged_and_none_that_came_later(
    client: Client, driver: Driver, tmp_path: Path, kind: str
) -> None:
    volume = client.create(f"pvc-{kind}", 2 * GIB if kind != "disperse" else 4 * GIB, TYPES[kind])
    taken: list[tuple[int, pb.Snapshot, int]] = []
    with mounted(client, volume, tmp_path) as root, Counter([root]) as writer:
        for number in range(3):
            writer.wait_for(writer.acknowledged + 20)
            acknowledged = writer.acknowledged
            snapshot = take(client, f"snapshot-{number}", volume)
            taken.append((acknowledged, snapshot, writer.begun))
        writer.wait_for(writer.acknowledged + 20)
        acknowledged = writer.acknowledged
        clone = copy(client, "clone", volume, TYPES[kind])
        begun = writer.begun
        writer.wait_for(writer.acknowledged + 5)
    assert writer.failed is None
    assert writer.longest < 5
    print(f"\n{kind}: {writer.acknowledged} files, the longest took {writer.longest:.3f} s")
    with mounted(client, clone, tmp_path) as root:
        assert acknowledged <= counted([root]) <= begun
    client.delete(clone.volume_id)
    for acknowledged, snapshot, begun in taken:
        restored = copy(client, f"of-{snapshot.snapshot_id[:8]}", snapshot, TYPES[kind])
        with mounted(client, restored, tmp_path) as root:
            found = counted([root])
        print(f"  {acknowledged} acknowledged before, {found} in it, {begun} begun when it was there")
        assert acknowledged <= found <= begun
        client.delete(restored.volume_id)
        drop(client, snapshot)
    client.delete(volume.volume_id)


def test_a_group_shows_all_its_volumes_at_one_moment(client: Client, driver: Driver, tmp_path: Path) -> None:
    kinds = ["replicate", "disperse", "none"]
    volumes = [client.create(f"pvc-{kind}", GIB, TYPES[kind]) for kind in kinds]
    with (
        mounted(client, volumes[0], tmp_path) as a,
        mounted(client, volumes[1], tmp_path) as b,
        mounted(client, volumes[2], tmp_path) as c,
        Counter([a, b, c]) as writer,
    ):
        writer.wait_for(30)
        acknowledged = writer.acknowledged
        group = take_group(client, "g", volumes)
        begun = writer.begun
        writer.wait_for(writer.acknowledged + 5)
    assert writer.failed is None
    members = {snapshot.source_volume_id: snapshot for snapshot in group.snapshots}
    made = [
        copy(client, f"r-{v.volume_id[:6]}", members[v.volume_id], TYPES[k])
        for v, k in zip(volumes, kinds, strict=True)
    ]
    with (
        mounted(client, made[0], tmp_path) as a,
        mounted(client, made[1], tmp_path) as b,
        mounted(client, made[2], tmp_path) as c,
    ):
        found = counted([a, b, c])
    print(f"\n{acknowledged} acknowledged before, {found} in the group, {begun} begun when it was there")
    assert acknowledged <= found <= begun
    for volume in (*volumes, *made):
        client.delete(volume.volume_id)
    drop_group(client, group)


def test_a_driver_that_dies_while_writers_are_held_up_leaves_nobody_waiting(driver: Driver, tmp_path: Path) -> None:
    """It ends when the bricks are frozen and the barrier is on: the hosts let go of both by themselves."""
    lab, staging, target = driver.lab, tmp_path / "staging", tmp_path / "target"
    with driver.client() as client:
        volume = client.create("pvc-held", GIB)
        client.stage(volume, staging)
        client.publish(volume, staging, target)
    driver.stop()
    driver.settings = {**driver.settings, "snapshots": {"bound": 6.0}}
    # cp that hangs: the driver waits for it with everything held.
    hang = "printf '#!/bin/sh\\nsleep 600\\n' >/tmp/cp; chmod +x /tmp/cp; mount --bind /tmp/cp /usr/bin/cp"
    for host in lab.hosts:
        lab.run(host, ["sh", "-c", hang])
    info = ["gluster", "--mode=script", "volume", "info", volume.volume_context["glusterVolume"]]
    try:
        driver.start(topology=False)
        with driver.client() as client:
            request = pb.CreateSnapshotRequest(name="s", source_volume_id=volume.volume_id)
            pending = client.controller.CreateSnapshot.future(request, timeout=60)
            deadline = time.monotonic() + 20
            while "features.barrier: enable" not in lab.run(lab.hosts[0], info).stdout:
                assert time.monotonic() < deadline
            time.sleep(0.5)
            assert driver.process is not None
            driver.process.kill()
            driver.process.wait()
            driver.process = None
            pending.cancel()
        began = time.monotonic()
        with (target / "file").open("wb") as file:
            file.write(b"written")
            file.flush()
            os.fsync(file.fileno())
        took = time.monotonic() - began
        print(f"\na writer waited for {took:.1f} s")
        assert 0.5 < took < 20
        while "features.barrier: enable" in lab.run(lab.hosts[0], info).stdout:
            assert time.monotonic() < began + 40
            time.sleep(0.2)
    finally:
        for host in lab.hosts:
            lab.run(host, ["sh", "-c", "pkill -x sleep; umount -l /usr/bin/cp; rm -f /tmp/cp"], check=False)
    driver.start(topology=False)
    with driver.client() as client:
        # What the driver that died had begun is undone first.
        drop(client, take(client, "s", volume))
        client.unpublish(volume, target)
        client.unstage(volume, staging)
        client.delete(volume.volume_id)

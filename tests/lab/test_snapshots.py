"""Snapshots, restores, clones and groups on real hosts: what is in them, and what is not."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from tests.driver import GIB, Client, Driver, capability, patiently
from tests.lab import Lab
from tests.lab.fixtures import session_instance
from tests.lab.system import SLOWNESS, wait_for

pytestmark = pytest.mark.lab

PATIENCE = 80.0 * SLOWNESS
TYPES = {
    "replicate": {"volumeType": "replicate:3"},
    "arbiter": {"volumeType": "replicate:3", "arbiter": "true"},
    "disperse": {"volumeType": "disperse:2:1"},
    "none": {"volumeType": "none"},
    "sharded": {"volumeType": "replicate:3", "volumeOptions": "features.shard on,features.shard-block-size 4MB"},
}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """A volume of 2 GiB has two sets of bricks."""
    return {"gids": {"rest_seconds": 0}, "placement": {"max_brick": GIB}}


def take(client: Client, name: str, volume: pb.Volume, *, patience: float = PATIENCE) -> pb.Snapshot:
    """``patience``, in seconds, here and below: for how long a "not now" is asked again, as sidecars ask."""
    request = pb.CreateSnapshotRequest(name=name, source_volume_id=volume.volume_id)
    return patiently(lambda: client.controller.CreateSnapshot(request, timeout=60), patience).snapshot


def drop(client: Client, snapshot: pb.Snapshot) -> None:
    request = pb.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id)
    patiently(lambda: client.controller.DeleteSnapshot(request, timeout=60))


def take_group(client: Client, name: str, volumes: Sequence[pb.Volume]) -> pb.VolumeGroupSnapshot:
    request = pb.CreateVolumeGroupSnapshotRequest(name=name, source_volume_ids=[v.volume_id for v in volumes])
    groups = rpc.GroupControllerStub(client.channel)
    return patiently(lambda: groups.CreateVolumeGroupSnapshot(request, timeout=60)).group_snapshot


def drop_group(client: Client, group: pb.VolumeGroupSnapshot) -> None:
    request = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id=group.group_snapshot_id)
    groups = rpc.GroupControllerStub(client.channel)
    patiently(lambda: groups.DeleteVolumeGroupSnapshot(request, timeout=60))


def copy(
    client: Client,
    name: str,
    of: pb.Snapshot | pb.Volume,
    parameters: dict[str, str] | None = None,
    size: int = 0,
    *,
    patience: float = PATIENCE,
) -> pb.Volume:
    """A volume that begins as a copy."""
    if isinstance(of, pb.Volume):
        source = pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource(volume_id=of.volume_id))
        least = of.capacity_bytes
    else:
        source = pb.VolumeContentSource(snapshot=pb.VolumeContentSource.SnapshotSource(snapshot_id=of.snapshot_id))
        least = of.size_bytes
    request = pb.CreateVolumeRequest(
        name=name,
        capacity_range=pb.CapacityRange(required_bytes=size or least),
        volume_capabilities=[capability()],
        parameters=parameters or {},
        volume_content_source=source,
    )
    volume = patiently(lambda: client.controller.CreateVolume(request, timeout=60), patience).volume
    assert volume.content_source == source
    return volume


@contextmanager
def mounted(client: Client, volume: pb.Volume, at: Path) -> Iterator[Path]:
    staging, target = at / f"s-{volume.volume_id[:8]}", at / f"t-{volume.volume_id[:8]}"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    try:
        yield target
    finally:
        client.unpublish(volume, target)
        client.unstage(volume, staging)


def fill(root: Path) -> None:
    """Files small and large, renamed ones (on several sets their names lead to another set than their data), links."""
    for number in range(40):
        (root / f"old-{number}").write_bytes(os.urandom(5000))
        (root / f"old-{number}").rename(root / f"new-{number}")
    (root / "large").write_bytes(os.urandom(21 << 20))
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    os.link(deep / "file", root / "hard")
    (root / "soft").symlink_to("a/b/file")
    os.setxattr(root / "large", "user.colour", b"blue")
    subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)


def contents(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        told = path.lstat()
        if path.is_symlink():
            what: object = os.readlink(path)
        elif path.is_file():
            what = (hashlib.sha256(path.read_bytes()).hexdigest(), told.st_nlink, sorted(os.listxattr(path)))
        else:
            what = "directory"
        found[str(path.relative_to(root))] = (oct(told.st_mode), told.st_gid, what)
    return found


def unhealed(lab: Lab, volume: pb.Volume) -> str:
    name = volume.volume_context["glusterVolume"]
    said = lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "heal", name, "info", "summary"], check=False)
    counts = [line.split(":")[1].strip() for line in said.stdout.splitlines() if line.startswith("Total Number")]
    return "" if not any(count not in ("0", "") for count in counts) else said.stdout


# Two sets have all that one has.
@pytest.mark.parametrize(("sets", "kind"), [(1, "replicate"), *((2, kind) for kind in TYPES)])
def test_what_was_there_is_there_again(client: Client, driver: Driver, tmp_path: Path, kind: str, sets: int) -> None:
    size = GIB if sets == 1 else (2 * GIB if kind != "disperse" else 4 * GIB)
    _is_there_again(client, driver.lab, tmp_path, TYPES[kind], size)


def test_what_was_there_is_there_again_in_four_parts_and_two_more(settings: dict[str, Any], tmp_path: Path) -> None:
    """Two sets of six bricks, a host for each of a set."""
    lab = Lab(f"{session_instance()[:7]}w", hosts=6, devices=1)
    try:
        lab.up(pool=True)
        driver = Driver(lab, tmp_path / "driver", settings=settings)
        driver.start()
        try:
            with driver.client() as client:
                _is_there_again(client, lab, tmp_path, {"volumeType": "disperse:4:2"}, 8 * GIB)
        finally:
            driver.remove()
        assert not lab.leftovers()
    finally:
        lab.down()


def _is_there_again(client: Client, lab: Lab, tmp_path: Path, parameters: dict[str, str], size: int) -> None:
    volume = client.create("pvc-source", size, parameters)
    with mounted(client, volume, tmp_path) as root:
        fill(root)
        before = contents(root)
        snapshot = take(client, "snapshot-1", volume)
        assert abs(snapshot.creation_time.seconds - time.time()) < 10
        (root / "new-1").write_text("changed")
        (root / "new-2").unlink()
        (root / "new-3").rename(root / "later")
        (root / "large").write_bytes(b"gone")
        after = contents(root)
        clone = copy(client, "clone-1", volume, parameters)
        (root / "new-4").unlink()
    client.delete(volume.volume_id)
    restored = copy(client, "restored-1", snapshot, parameters)
    drop(client, snapshot)
    for made, expected in ((restored, before), (clone, after)):
        with mounted(client, made, tmp_path) as root:
            assert contents(root) == expected
            if parameters["volumeType"] != "none":
                # A write that was under way in the copied moment is finished by the daemons.
                wait_for("nothing to heal", lambda made=made: unhealed(lab, made) == "", 60)
            # It is a volume as any other: what is renamed and removed in it is so.
            for number in range(5, 40):
                (root / f"new-{number}").rename(root / f"again-{number}")
                (root / f"again-{number}").unlink()
            (root / "more").write_bytes(os.urandom(1 << 20))
            assert not [path.name for path in root.iterdir() if path.name.startswith("again")]
        client.delete(made.volume_id)


def test_a_restored_volume_can_be_larger(client: Client, tmp_path: Path) -> None:
    volume = client.create("pvc-small", GIB)
    with mounted(client, volume, tmp_path) as root:
        (root / "file").write_text("kept")
        subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)
    snapshot = take(client, "snapshot-1", volume)
    with pytest.raises(grpc.RpcError) as refused:
        copy(client, "smaller", snapshot, size=GIB // 2)
    assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
    for number, source in enumerate((snapshot, volume)):
        larger = copy(client, f"larger-{number}", source, size=2 * GIB)
        assert larger.capacity_bytes == 2 * GIB
        with mounted(client, larger, tmp_path) as root:
            told = os.statvfs(root)
            assert told.f_blocks * told.f_frsize >= 2 * GIB
            assert (root / "file").read_text() == "kept"
        client.delete(larger.volume_id)
    drop(client, snapshot)
    client.delete(volume.volume_id)


# --- writers that count -----------------------------------------------------------------------


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
        data = (roots[number % len(roots)] / f"{number:06d}").read_bytes()
        if number < len(there) - 1:
            assert data == b"%06d\n" % number * 20, f"file {number} is not whole, and a later one is there"
    last = len(there) - 1
    whole = last >= 0 and (roots[last % len(roots)] / f"{last:06d}").read_bytes() == b"%06d\n" % last * 20
    return len(there) if whole else last


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


# --- not now ----------------------------------------------------------------------------------


def test_not_while_a_brick_is_down(client: Client, driver: Driver) -> None:
    volume = client.create("pvc-down", GIB)
    name = volume.volume_context["glusterVolume"]
    driver.lab.run(driver.lab.hosts[1], ["pkill", "-f", f"volfile-id {name}[.]"])
    for ask in (lambda: take(client, "s", volume, patience=0), lambda: copy(client, "c", volume, patience=0)):
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "bricks are down" in refused.value.details()
    client.delete(volume.volume_id)


def test_not_while_files_wait_to_be_healed(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-heal", GIB, {"volumeOptions": "cluster.self-heal-daemon off"})
    name, lab = volume.volume_context["glusterVolume"], driver.lab
    with mounted(client, volume, tmp_path) as root:
        (root / "file").write_text("before")
        lab.run(lab.hosts[1], ["pkill", "-f", f"volfile-id {name}[.]"])
        time.sleep(1)
        (root / "file").write_text("after")
        subprocess.run(["sync", "-f", str(root)], check=True, timeout=60)
    lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "start", name, "force"])
    deadline = time.monotonic() + 20
    while True:
        with pytest.raises(grpc.RpcError) as refused:
            take(client, "s", volume, patience=0)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        if "bricks are down" not in refused.value.details() or time.monotonic() > deadline:
            break
    assert "wait to be healed" in refused.value.details()
    client.delete(volume.volume_id)


def test_not_while_files_are_moved(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-moved", GIB, {"volumeType": "none", "expansion": "addSets"})
    capacity = client.controller.GetCapacity(pb.GetCapacityRequest(parameters={"volumeType": "none"}))
    with mounted(client, volume, tmp_path) as root:
        for number in range(1500):
            (root / f"file{number}").write_bytes(b"x" * 3000)
    wanted = pb.CapacityRange(required_bytes=capacity.maximum_volume_size.value // 2)
    grow = pb.ControllerExpandVolumeRequest(volume_id=volume.volume_id, capacity_range=wanted)
    volume.capacity_bytes = patiently(lambda: client.controller.ControllerExpandVolume(grow, timeout=60)).capacity_bytes
    rebalance = ["gluster", "--mode=script", "volume", "rebalance", volume.volume_context["glusterVolume"]]
    refusals = []
    for ask in (
        lambda: take(client, "s", volume, patience=0),
        lambda: copy(client, "c", volume, {"volumeType": "none"}, patience=0),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        refusals.append((refused.value.code(), refused.value.details()))
    assert "in progress" in driver.lab.run(driver.lab.hosts[0], [*rebalance, "status"], check=False).stdout
    print(f"\n{refusals}")
    for code, details in refusals:
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "Rebalance" in (details or "")
    patiently(lambda: client.delete(volume.volume_id))


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
            pending = client.controller.CreateSnapshot.future(request, timeout=60)  # type: ignore[attr-defined]
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

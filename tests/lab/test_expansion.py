"""Expansion on real hosts, while a writer that checks itself writes through a mount."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, patiently

pytestmark = pytest.mark.lab


def expand(client: Client, volume_id: str, required: int, limit: int = 0, timeout: float = 60) -> int:
    request = pb.ControllerExpandVolumeRequest(
        volume_id=volume_id, capacity_range=pb.CapacityRange(required_bytes=required, limit_bytes=limit)
    )
    reply = client.controller.ControllerExpandVolume(request, timeout=timeout)
    assert not reply.node_expansion_required
    return reply.capacity_bytes


@contextmanager
def mounted(client: Client, volume: pb.Volume, directory: Path) -> Iterator[Path]:
    staging, target = directory / "staging", directory / "target"
    client.stage(volume, staging)
    client.publish(volume, staging, target)
    yield target
    client.unpublish(volume, target)
    client.unstage(volume, staging)


def df(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def code(call: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    return call.value.code()


@pytest.mark.parametrize(
    "parameters",
    [
        {"volumeType": "replicate:3"},
        {"volumeType": "replicate:3", "arbiter": "true"},
        {"volumeType": "disperse:2:1"},
        {"volumeType": "none"},
    ],
)
def test_df_shows_the_new_size(client: Client, tmp_path: Path, parameters: dict[str, str]) -> None:
    volume = client.create("pvc-grow", GIB, parameters)
    with mounted(client, volume, tmp_path) as target:
        assert df(target) >= GIB
        for size in (GIB + (100 << 20), 3 * GIB):
            assert expand(client, volume.volume_id, size) == size
            assert df(target) >= size
    client.delete(volume.volume_id)


def test_a_writer_goes_on_while_its_volume_grows(client: Client, tmp_path: Path) -> None:
    volume = client.create("pvc-written", GIB)
    with mounted(client, volume, tmp_path) as target:
        report, log = tmp_path / "fio.json", tmp_path / "fio"
        command = [
            *("fio", "--name=w", f"--directory={target}", "--size=64m", "--rw=randwrite", "--bs=16k", "--direct=0"),
            *(
                "--verify=crc32c",
                "--verify_fatal=1",
                "--verify_backlog=32",
                "--fsync=16",
                "--time_based",
                "--runtime=6",
                "--rate=8m",
            ),
            *("--output-format=json", f"--output={report}", f"--aux-path={tmp_path}", f"--write_lat_log={log}"),
        ]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(1.5)
        took = []
        for size in (2 * GIB, 3 * GIB, 4 * GIB):
            began = time.monotonic()
            assert expand(client, volume.volume_id, size) == size
            took.append(time.monotonic() - began)
            assert df(target) >= size
            assert writer.poll() is None, "the writer must still be at it"
        said, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0, said
        job = json.loads("{" + report.read_text().partition("{")[2])["jobs"][0]
        assert job["error"] == 0
        assert job["read"]["total_ios"] > 0  # what it compared
        longest = max(job["write"]["clat_ns"]["max"], job["sync"]["lat_ns"]["max"]) / 1e9
        print(
            f"\nexpanded in {', '.join(f'{seconds:.2f}' for seconds in took)} s; {job['write']['total_ios']} writes, "
            f"{job['read']['total_ios']} of them compared; the longest stall of one was {longest:.2f} s"
        )
        assert longest < 5
    client.delete(volume.volume_id)


def test_what_can_not_be(client: Client, driver: Driver) -> None:
    volume = client.create("pvc-refused", 2 * GIB)
    assert expand(client, volume.volume_id, GIB) == 2 * GIB
    with pytest.raises(grpc.RpcError) as refused:
        expand(client, volume.volume_id, GIB, GIB)
    assert code(refused) is grpc.StatusCode.OUT_OF_RANGE
    with pytest.raises(grpc.RpcError) as refused:
        expand(client, volume.volume_id, 1 << 50)
    assert code(refused) is grpc.StatusCode.OUT_OF_RANGE
    with pytest.raises(grpc.RpcError, match="the largest that fits has") as refused:
        expand(client, volume.volume_id, 1 << 40)
    assert code(refused) is grpc.StatusCode.OUT_OF_RANGE
    with pytest.raises(grpc.RpcError) as refused:
        expand(client, "0" * 32, GIB)
    assert code(refused) is grpc.StatusCode.NOT_FOUND
    client.delete(volume.volume_id)
    with pytest.raises(grpc.RpcError) as refused:
        expand(client, volume.volume_id, 3 * GIB)
    assert code(refused) is grpc.StatusCode.NOT_FOUND


def test_at_once_and_with_short_deadlines(client: Client) -> None:
    volume = client.create("pvc-hurried", GIB)
    with ThreadPoolExecutor(8) as pool:
        same = [pool.submit(patiently, lambda: expand(client, volume.volume_id, 2 * GIB)) for _ in range(4)]
        more = [pool.submit(patiently, lambda: expand(client, volume.volume_id, 3 * GIB)) for _ in range(4)]
        assert {done.result() for done in same} <= {2 * GIB, 3 * GIB}
        assert {done.result() for done in more} == {3 * GIB}
    with pytest.raises(grpc.RpcError):
        expand(client, volume.volume_id, 4 * GIB, timeout=0.01)
    assert patiently(lambda: expand(client, volume.volume_id, 4 * GIB)) == 4 * GIB
    client.delete(volume.volume_id)


def test_a_host_that_is_away(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-away", GIB)
    lab = driver.lab
    lab.kill(lab.hosts[2])
    with pytest.raises(grpc.RpcError) as refused:
        patiently(lambda: expand(client, volume.volume_id, 2 * GIB), 1)
    assert code(refused) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    lab.start(lab.hosts[2])
    assert patiently(lambda: expand(client, volume.volume_id, 2 * GIB)) >= 2 * GIB
    with mounted(client, volume, tmp_path) as target:
        assert df(target) >= 2 * GIB
    patiently(lambda: client.delete(volume.volume_id))


def test_further_sets_where_a_device_lacks_room(client: Client, driver: Driver, tmp_path: Path) -> None:
    lab = driver.lab
    volume = client.create("pvc-sets", GIB, {"volumeType": "replicate:3", "expansion": "addSets"})
    with pytest.raises(grpc.RpcError) as refused:
        expand(client, volume.volume_id, 1 << 40)
    assert code(refused) is grpc.StatusCode.OUT_OF_RANGE
    assert "the largest that fits has" in (refused.value.details() or "")
    # More than one device has.
    capacity = client.controller.GetCapacity(pb.GetCapacityRequest(parameters={"volumeType": "replicate:3"}))
    wanted = capacity.maximum_volume_size.value // 2 + 2 * GIB
    with mounted(client, volume, tmp_path) as target:
        for number in range(50):
            (target / f"file{number}").write_bytes(bytes([number]) * 10000)
        assert patiently(lambda: expand(client, volume.volume_id, wanted)) >= wanted
        assert df(target) >= wanted
        name = volume.volume_context["glusterVolume"]
        info = lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "info", name]).stdout
        assert "x 3 = " in info
        assert "1 x 3" not in info
        deadline = time.monotonic() + 30
        while "completed" not in (
            said := lab.run(
                lab.hosts[0], ["gluster", "--mode=script", "volume", "rebalance", name, "status"], check=False
            ).stdout
        ):
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        assert [(target / f"file{n}").read_bytes()[:1] for n in range(50)] == [bytes([n]) for n in range(50)]
    patiently(lambda: client.delete(volume.volume_id))


def test_a_volume_is_deleted_while_its_files_are_moved(client: Client, driver: Driver, tmp_path: Path) -> None:
    volume = client.create("pvc-moved", GIB, {"volumeType": "none", "expansion": "addSets"})
    capacity = client.controller.GetCapacity(pb.GetCapacityRequest(parameters={"volumeType": "none"}))
    with mounted(client, volume, tmp_path) as target:
        for number in range(1500):
            (target / f"file{number}").write_bytes(b"x" * 3000)
    slowly = ["gluster", "volume", "set", volume.volume_context["glusterVolume"], "cluster.rebal-throttle", "lazy"]
    driver.lab.run(driver.lab.hosts[0], slowly)
    patiently(lambda: expand(client, volume.volume_id, capacity.maximum_volume_size.value // 2))
    # Paused they do not answer glusterd, as those that have only just begun; some are at work still.
    pause = ["pkill", "-STOP", "-f", "volfile-id rebalance/"]
    assert 0 in [driver.lab.run(host, pause, check=False).returncode for host in driver.lab.hosts]
    patiently(lambda: client.delete(volume.volume_id))
    for host in driver.lab.hosts:
        assert "rebalance" not in driver.lab.run(host, ["ps", "ax", "-o", "args"]).stdout

"""Modification on real hosts: options, profile, a third copy that gluster fills."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, capability, patiently
from tests.lab.system import wait_for
from tests.lab.test_expansion import df, expand, mounted

pytestmark = pytest.mark.lab


def modify(client: Client, volume: pb.Volume, **parameters: str) -> None:
    request = pb.ControllerModifyVolumeRequest(volume_id=volume.volume_id, mutable_parameters=parameters)
    client.controller.ControllerModifyVolume(request, timeout=60)


def info(driver: Driver, volume: pb.Volume) -> str:
    name = volume.volume_context["glusterVolume"]
    return driver.lab.run(driver.lab.hosts[0], ["gluster", "--mode=script", "volume", "info", name]).stdout


def test_options_and_a_profile(client: Client, driver: Driver) -> None:
    request = pb.CreateVolumeRequest(
        name="pvc-options",
        capacity_range=pb.CapacityRange(required_bytes=GIB),
        volume_capabilities=[capability()],
        mutable_parameters={"profile": "db-workload"},
    )
    volume = client.controller.CreateVolume(request, timeout=60).volume
    assert "performance.write-behind: off" in info(driver, volume)
    modify(client, volume, profile="metadata-cache", volumeOptions="network.inode-lru-limit 100000")
    found = info(driver, volume)
    assert "features.cache-invalidation: on" in found
    assert "network.inode-lru-limit: 100000" in found
    with pytest.raises(grpc.RpcError, match="io-cache") as refused:
        modify(client, volume, volumeOptions="performance.io-cache perhaps, performance.read-ahead off")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "performance.read-ahead: off" not in found.replace(info(driver, volume), "")
    with pytest.raises(grpc.RpcError, match="the known ones are") as refused:
        modify(client, volume, colour="blue")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    client.delete(volume.volume_id)


@pytest.mark.parametrize("arbiter", [True, False])
def test_a_third_copy_is_filled_while_the_volume_is_in_use(
    client: Client, driver: Driver, tmp_path: Path, arbiter: bool
) -> None:
    lab = driver.lab
    volume = client.create("pvc-copies", GIB, {"volumeType": "replicate:2"})
    name = volume.volume_context["glusterVolume"]
    with mounted(client, volume, tmp_path) as target:
        (target / "directory").mkdir()
        for number in range(40):
            (target / "directory" / f"file{number}").write_bytes(bytes([number]) * 65536)
        writer = subprocess.Popen(
            ["sh", "-c", f"i=0; while [ $i -lt 60 ]; do echo $i >>{target}/log || exit 1; i=$((i+1)); sleep 0.05; done"]
        )
        began = time.monotonic()
        modify(client, volume, volumeType="replicate:3", arbiter=str(arbiter).lower())
        took = time.monotonic() - began
        assert writer.wait(30) == 0
        assert ("(2 + 1) = 3" if arbiter else "1 x 3 = 3") in info(driver, volume)
        last = next(line for line in info(driver, volume).splitlines() if line.startswith("Brick3: "))
        address, _, path = last.removeprefix("Brick3: ").removesuffix(" (arbiter)").partition(":")
        host = next(host for host in lab.hosts if host.address == address)

        def healed() -> bool:
            found = lab.run(host, ["find", path, "-path", "*/.glusterfs", "-prune", "-o", "-type", "f", "-print"])
            sizes = lab.run(host, ["du", "-sk", f"{path}/directory"]).stdout.split()
            full = arbiter or int(sizes[0]) >= 40 * 64
            return len(found.stdout.split()) == 41 and full

        wait_for("the third brick to be filled", healed, 100)
        print(f"\nchanged in {took:.2f} s, healed after {time.monotonic() - began:.1f} s")
        expand(client, volume.volume_id, 2 * GIB)
        assert df(target) >= 2 * GIB
    summary = lab.run(lab.hosts[0], ["gluster", "--mode=script", "volume", "heal", name, "info", "summary"]).stdout
    assert "Number of entries: 0" in summary.replace("Total Number", "Number")
    patiently(lambda: client.delete(volume.volume_id))

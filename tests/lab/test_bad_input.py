"""Bad input: the right code, a message that names field, value and what is allowed; nothing changes on any host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, capability
from tests.lab import Lab

pytestmark = pytest.mark.lab

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SHELL = "$(touch /tmp/pwned) `id` ; rm -rf / && x | y > /z ' \" \\ * ? ~ # ! { } \n\t"
NASTY = (SHELL * 4)[:200]

WRONG = {
    "gidMin": ["1999", "-1", "x", "2147483648", NASTY],
    "gidMax": ["1", "2147483648", NASTY],
    "volumeType": ["replicate:1", "replicate:4", "disperse", "disperse:2:2", "disperse:x:y", "mirror", NASTY],
    "volumeOptions": ["performance.io-cache", "-x on", "a;b on", NASTY],
    "volumeNamePrefix": ["a_b", "a b", "-x", "x" * 200, NASTY],
    "snapFactor": ["0.5", "101", "nan", "x", NASTY],
    "clusterId": ["x", "abc,def", "f" * 32, NASTY],
    "zoneChecking": ["maybe", NASTY],
    "deviceTag": ["x", "=y", "a==b=c;", NASTY],
    "arbiter": ["perhaps", NASTY],
    "averageFileSize": ["0", "-1", "big", NASTY],
    "rootMode": ["9999", "x", "0777777", NASTY],
    "pingTimeout": ["0", "-1", "x", "100000", NASTY],
    "noSuchParameter": ["x", NASTY],
}


@pytest.fixture(scope="module")
def driver(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(lab, tmp_path_factory.mktemp("bad") / "driver")
    driver.start()
    yield driver
    driver.remove()


@pytest.fixture
def client(driver: Driver, clean_lab: Lab) -> Iterator[Client]:
    before = _hosts(clean_lab)
    with driver.client() as client:
        yield client
    assert _hosts(clean_lab) == before, "something changed on a host"
    assert not Path("/tmp/pwned").exists()


def _hosts(lab: Lab) -> list[str]:
    script = (
        "ls -laR /srv /var/lib/gluster-csi; cat /etc/fstab; grep -c . /proc/self/mountinfo; ls /var/lib/glusterd/vols"
    )
    return [lab.run(host, ["sh", "-c", script], check=False).stdout for host in lab.hosts]


def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    assert callable(call)
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error = refused.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details() or ""


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_each_parameter_wrong_in_turn(client: Client, name: str, value: str) -> None:
    code, message = refusal(lambda: client.create("pvc-bad", GIB, {name: value}))
    assert code is INVALID, message
    assert name.lower() in message.lower()


def test_gid_range_upside_down(client: Client) -> None:
    code, message = refusal(lambda: client.create("pvc-bad", GIB, {"gidMin": "3000", "gidMax": "2500"}))
    assert code is INVALID
    assert "gidMin" in message


def test_an_arbiter_without_replicas(client: Client) -> None:
    code, message = refusal(lambda: client.create("pvc-bad", GIB, {"volumeType": "disperse:2:1", "arbiter": "true"}))
    assert code is INVALID
    assert "arbiter" in message


def test_sizes(client: Client) -> None:
    code, message = refusal(lambda: client.create("pvc-bad", -1))
    assert (code, "-1" in message) == (INVALID, True), message
    code, message = refusal(lambda: client.create("pvc-bad", 1 << 41))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, message
    assert "largest" in message
    code, message = refusal(lambda: client.create("pvc-bad", 1 << 50))
    assert code is grpc.StatusCode.OUT_OF_RANGE, message
    request = pb.CreateVolumeRequest(
        name="pvc-bad",
        capacity_range=pb.CapacityRange(required_bytes=2 * GIB, limit_bytes=GIB),
        volume_capabilities=[capability()],
    )
    code, message = refusal(lambda: client.controller.CreateVolume(request, timeout=20))
    assert code in (INVALID, grpc.StatusCode.OUT_OF_RANGE), message
    tiny = pb.CreateVolumeRequest(
        name="pvc-bad", capacity_range=pb.CapacityRange(limit_bytes=4096), volume_capabilities=[capability()]
    )
    code, message = refusal(lambda: client.controller.CreateVolume(tiny, timeout=20))
    assert code is grpc.StatusCode.OUT_OF_RANGE, message


def test_size_zero_gets_the_default(driver: Driver, clean_lab: Lab) -> None:
    with driver.client() as client:
        volume = client.create("pvc-zero", 0)
        assert volume.capacity_bytes >= GIB
        client.delete(volume.volume_id)


def test_names(client: Client) -> None:
    for name in ("", "x" * 129, "a\x00b", "a\nb"):
        code, message = refusal(lambda name=name: client.create(name, GIB))
        assert code is INVALID, message
        assert "name" in message


def test_a_name_of_shell_syntax_is_only_a_name(driver: Driver, clean_lab: Lab) -> None:
    name = "$(touch /tmp/pwned) `id`; rm -rf / && x | y > /z ' \" \\ * ? ~ # ! { } ünïcode %s"
    with driver.client() as client:
        volume = client.create(name, GIB)
        assert client.create(name, GIB).volume_id == volume.volume_id
        client.delete(volume.volume_id)
    assert not Path("/tmp/pwned").exists()


def test_node_paths_and_flags(client: Client, tmp_path: Path) -> None:
    def stage(**changes: object) -> None:
        fields = {
            "volume_id": "a" * 32,
            "staging_target_path": str(tmp_path / "staging"),
            "volume_capability": capability(),
            "volume_context": {"glusterVolume": "vol_x", "servers": "10.0.0.1", "gid": "2000", "pingTimeout": "10"},
        }
        client.node.NodeStageVolume(pb.NodeStageVolumeRequest(**{**fields, **changes}), timeout=20)  # type: ignore[arg-type]

    for change in (
        {"staging_target_path": "relative"},
        {"volume_context": {"glusterVolume": NASTY, "servers": "10.0.0.1"}},
        {"volume_context": {"glusterVolume": "vol_x", "servers": NASTY}},
        {"volume_capability": capability(flags=(NASTY,))},
        {"volume_capability": capability(flags=("no-such-flag",))},
        {"volume_capability": pb.VolumeCapability(block=pb.VolumeCapability.BlockVolume())},
    ):
        code, message = refusal(lambda change=change: stage(**change))
        assert code is INVALID, (change, message)
    assert not Path("/tmp/pwned").exists()


def test_ids_that_are_none(client: Client) -> None:
    client.delete(NASTY)
    client.delete("no-such-volume")
    request = pb.ControllerGetVolumeRequest(volume_id=NASTY)
    assert refusal(lambda: client.controller.ControllerGetVolume(request, timeout=20))[0] is grpc.StatusCode.NOT_FOUND

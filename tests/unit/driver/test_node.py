"""Node: what is refused before anything is looked at, and what reaches the mounts, over a simulated node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.api import csi_pb2 as pb
from csi.api import csi_pb2_grpc as rpc
from csi.driver.node import NodeService
from csi.driver.server import Server
from csi.mounts.simulated import Health, SimulatedMounter
from csi.service.publish import Publisher
from tests.unit.driver.conftest import block, capability

Code = grpc.StatusCode
Mode = pb.VolumeCapability.AccessMode
CONTEXT = {"glusterVolume": "vol_1", "servers": "a,b,c", "pingTimeout": "7", "gid": "2000"}
TARGET, OTHER = "/pods/1/mount", "/pods/2/mount"


@pytest.fixture
def mounts() -> SimulatedMounter:
    return SimulatedMounter(["vol_1", "vol_2"])


@pytest.fixture
async def node(mounts: SimulatedMounter, tmp_path: Path) -> AsyncIterator[rpc.NodeAsyncStub]:
    server = Server(f"unix://{tmp_path}/csi.sock")
    server.add_node(NodeService(Publisher(mounts), "node-1"))
    await server.start()
    async with grpc.aio.insecure_channel(f"unix://{tmp_path}/csi.sock") as channel:
        yield rpc.NodeStub(channel)
    await server.stop(0)


def stage(**changes: Any) -> pb.NodeStageVolumeRequest:
    usual = {
        "volume_id": "1",
        "staging_target_path": "/staging",
        "volume_capability": capability(),
        "volume_context": CONTEXT,
    }
    return pb.NodeStageVolumeRequest(**{**usual, **changes})


def publish(**changes: Any) -> pb.NodePublishVolumeRequest:
    usual = {
        "volume_id": "1",
        "staging_target_path": "/staging",
        "target_path": TARGET,
        "volume_capability": capability(),
        "volume_context": CONTEXT,
    }
    return pb.NodePublishVolumeRequest(**{**usual, **changes})


def with_flags(*flags: str) -> pb.VolumeCapability:
    return pb.VolumeCapability(
        mount=pb.VolumeCapability.MountVolume(mount_flags=flags), access_mode=capability().access_mode
    )


async def refused(call: Awaitable[Any], code: grpc.StatusCode, *words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    message = refusal.value.details() or ""
    assert refusal.value.code() is code, message
    for word in words:
        assert word in message


async def test_who_it_is_and_what_it_can(node: rpc.NodeAsyncStub) -> None:
    info = await node.NodeGetInfo(pb.NodeGetInfoRequest())
    assert (info.node_id, info.HasField("accessible_topology")) == ("node-1", False)
    reply = await node.NodeGetCapabilities(pb.NodeGetCapabilitiesRequest())
    names = {pb.NodeServiceCapability.RPC.Type.Name(each.rpc.type) for each in reply.capabilities}
    assert names == {"STAGE_UNSTAGE_VOLUME", "GET_VOLUME_STATS", "VOLUME_CONDITION", "SINGLE_NODE_MULTI_WRITER"}


async def test_from_birth_to_death(node: rpc.NodeAsyncStub, mounts: SimulatedMounter) -> None:
    await node.NodeStageVolume(stage())
    source = mounts.client("/staging").source
    assert (source.volume, sorted(source.servers), source.ping_timeout) == ("vol_1", ["a", "b", "c"], 7)
    await node.NodePublishVolume(publish())
    stats = await node.NodeGetVolumeStats(pb.NodeGetVolumeStatsRequest(volume_id="1", volume_path=TARGET))
    units = pb.VolumeUsage.Unit
    assert [(u.unit, u.total) for u in stats.usage] == [(units.BYTES, 1 << 30), (units.INODES, 1000)]
    assert stats.HasField("volume_condition")
    assert not stats.volume_condition.abnormal
    assert stats.volume_condition.message
    await node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(volume_id="1", target_path=TARGET))
    await node.NodeUnstageVolume(pb.NodeUnstageVolumeRequest(volume_id="1", staging_target_path="/staging"))
    assert mounts.mounted == {}
    assert TARGET not in mounts.directories


BAD_PATHS = ["", "relative/path", "/", "//", "/a/../b", "/a\0b", "/" + "x" * 4095]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"volume_id": ""}, "volume_id"),
        *(({"staging_target_path": path}, "staging_target_path") for path in BAD_PATHS),
        ({"volume_capability": None}, "volume_capability"),
        ({"volume_capability": block()}, "volume_capability.access_type"),
        ({"volume_capability": capability(Mode.UNKNOWN)}, "volume_capability.access_mode"),
        ({"volume_capability": with_flags("log-file=/etc/passwd")}, "log-file"),
        ({"volume_context": {}}, "volume_context.glusterVolume"),
        ({"volume_context": {**CONTEXT, "servers": "--volfile=/etc/passwd"}}, "volume_context.servers"),
    ],
)
async def test_stage_refuses(
    node: rpc.NodeAsyncStub, mounts: SimulatedMounter, changes: dict[str, Any], field: str
) -> None:
    await refused(node.NodeStageVolume(stage(**changes)), Code.INVALID_ARGUMENT, field)
    assert mounts.mounted == {}
    assert set(mounts.directories) == {"/"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"volume_id": ""}, "volume_id"),
        *(({"target_path": path}, "target_path") for path in BAD_PATHS),
        ({"target_path": "/staging/"}, "target_path"),
        *(({"staging_target_path": path}, "staging_target_path") for path in BAD_PATHS if path),
        ({"volume_capability": None}, "volume_capability"),
        ({"volume_capability": block()}, "volume_capability.access_type"),
        ({"volume_capability": with_flags("sync")}, "sync"),
        ({"volume_context": {}}, "volume_context.glusterVolume"),
    ],
)
async def test_publish_refuses(
    node: rpc.NodeAsyncStub, mounts: SimulatedMounter, changes: dict[str, Any], field: str
) -> None:
    await node.NodeStageVolume(stage())
    await refused(node.NodePublishVolume(publish(**changes)), Code.INVALID_ARGUMENT, field)
    assert mounts.mounted == {"/staging": 1}


@pytest.mark.parametrize("path", BAD_PATHS)
async def test_the_way_back_refuses(node: rpc.NodeAsyncStub, path: str) -> None:
    unpublish = pb.NodeUnpublishVolumeRequest(volume_id="1", target_path=path)
    unstage = pb.NodeUnstageVolumeRequest(volume_id="1", staging_target_path=path)
    await refused(node.NodeUnpublishVolume(unpublish), Code.INVALID_ARGUMENT, "target_path")
    await refused(node.NodeUnstageVolume(unstage), Code.INVALID_ARGUMENT, "staging_target_path")
    for call in (
        node.NodeUnpublishVolume(pb.NodeUnpublishVolumeRequest(target_path="/t")),
        node.NodeUnstageVolume(pb.NodeUnstageVolumeRequest(staging_target_path="/s")),
    ):
        await refused(call, Code.INVALID_ARGUMENT, "volume_id")


async def test_publish_without_a_staged_volume(node: rpc.NodeAsyncStub) -> None:
    await refused(node.NodePublishVolume(publish()), Code.FAILED_PRECONDITION, "stage it first")
    await refused(node.NodePublishVolume(publish(staging_target_path="")), Code.FAILED_PRECONDITION, "staging")


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, set()),
        ({"readonly": True}, {"ro"}),
        ({"volume_capability": with_flags("ro,noexec", "acl")}, {"ro", "noexec"}),
        ({"volume_capability": with_flags("noatime")}, {"noatime"}),
        ({"volume_capability": capability(Mode.MULTI_NODE_READER_ONLY)}, {"ro"}),
        ({"volume_capability": capability(Mode.SINGLE_NODE_READER_ONLY)}, {"ro"}),
    ],
)
async def test_what_the_pod_may_do(
    node: rpc.NodeAsyncStub, mounts: SimulatedMounter, changes: dict[str, Any], options: set[str]
) -> None:
    wanted = {"volume_capability": changes.get("volume_capability", capability())}
    await node.NodeStageVolume(stage(**wanted))
    await node.NodePublishVolume(publish(**changes))
    target, staging = await mounts.inspect(TARGET), await mounts.inspect("/staging")
    assert target is not None
    assert staging is not None
    assert set(target.options) - {"rw", "relatime"} == options
    assert "rw" in staging.options  # another pod may write


async def test_client_flags_reach_the_client(node: rpc.NodeAsyncStub, mounts: SimulatedMounter) -> None:
    await node.NodeStageVolume(stage(volume_capability=with_flags("acl", "attribute-timeout=600", "nodev")))
    assert mounts.client("/staging").source.flags == ("--acl", "--attribute-timeout=600")


MODES = [mode for mode in Mode.Mode.values() if mode]
SEVERAL = {
    Mode.MULTI_NODE_READER_ONLY,
    Mode.MULTI_NODE_SINGLE_WRITER,
    Mode.MULTI_NODE_MULTI_WRITER,
    Mode.SINGLE_NODE_MULTI_WRITER,
}


@pytest.mark.parametrize("mode", MODES)
async def test_a_second_publish(node: rpc.NodeAsyncStub, mode: int) -> None:
    wanted = {"volume_capability": capability(mode)}
    await node.NodeStageVolume(stage(**wanted))
    await node.NodePublishVolume(publish(**wanted))
    await node.NodePublishVolume(publish(**wanted))
    flags = pb.VolumeCapability(
        mount=pb.VolumeCapability.MountVolume(mount_flags=["noexec"]), access_mode=capability(mode).access_mode
    )
    await refused(node.NodePublishVolume(publish(volume_capability=flags)), Code.ALREADY_EXISTS, TARGET)
    elsewhere = node.NodePublishVolume(publish(target_path=OTHER, **wanted))
    if mode in SEVERAL:
        await elsewhere
    else:
        await refused(elsewhere, Code.FAILED_PRECONDITION, TARGET)


async def test_another_volume_at_the_staging_path(node: rpc.NodeAsyncStub) -> None:
    await node.NodeStageVolume(stage())
    other = stage(volume_id="2", volume_context={**CONTEXT, "glusterVolume": "vol_2"})
    await refused(node.NodeStageVolume(other), Code.ALREADY_EXISTS, "vol_1", "vol_2")


@pytest.mark.parametrize(("volume_id", "path"), [("1", "some/path"), ("x", "some/path"), ("x", "/nowhere")])
async def test_stats_of_what_is_not_there(node: rpc.NodeAsyncStub, volume_id: str, path: str) -> None:
    await node.NodeStageVolume(stage())
    request = pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=path)
    await refused(node.NodeGetVolumeStats(request), Code.NOT_FOUND, path)


@pytest.mark.parametrize("missing", ["volume_id", "volume_path"])
async def test_stats_need_both(node: rpc.NodeAsyncStub, missing: str) -> None:
    given = {"volume_id": "1", "volume_path": "/staging"}
    del given[missing]
    await refused(node.NodeGetVolumeStats(pb.NodeGetVolumeStatsRequest(**given)), Code.INVALID_ARGUMENT, missing)


async def test_a_dead_client_is_a_condition_not_an_error(node: rpc.NodeAsyncStub, mounts: SimulatedMounter) -> None:
    await node.NodeStageVolume(stage())
    mounts.client("/staging").health = Health.DEAD
    stats = await node.NodeGetVolumeStats(pb.NodeGetVolumeStatsRequest(volume_id="1", volume_path="/staging"))
    assert stats.volume_condition.abnormal
    assert "died" in stats.volume_condition.message
    assert not stats.usage


async def test_failures_of_mounts(node: rpc.NodeAsyncStub, mounts: SimulatedMounter) -> None:
    mounts.failing["mount"] = "no server answered"
    await refused(node.NodeStageVolume(stage()), Code.INTERNAL, "no server answered")
    await node.NodeStageVolume(stage())
    mounts.client("/staging").health = Health.SILENT
    await refused(node.NodePublishVolume(publish()), Code.UNAVAILABLE, "no answer")


async def test_a_node_tells_its_zone() -> None:
    service = NodeService(Publisher(SimulatedMounter([])), "node-1", 7)
    info = await service.NodeGetInfo(pb.NodeGetInfoRequest(), object())
    assert dict(info.accessible_topology.segments) == {"topology.gluster.org/zone": "7"}

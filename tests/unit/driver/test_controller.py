"""Controller: what is refused before anything is looked up, what the service is asked, what is answered."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

import grpc
import pytest

from csi.api import csi_pb2 as pb
from csi.core.errors import HostUnreachable
from csi.core.model import Durability, Protection
from csi.driver.controller import ControllerService
from csi.driver.zones import KEY
from csi.service.expansion import ExpandRequest, Expansion
from csi.service.modification import Modification, ModifyRequest
from csi.service.snapshots import Snapshots
from csi.service.volumes import Volumes
from tests.unit.driver.conftest import GIB, Edge, FakeVolumes, block, capability

Code = grpc.StatusCode
Rpc = pb.ControllerServiceCapability.RPC
MODES = [m for m in pb.VolumeCapability.AccessMode.Mode.values() if m]


def create(name: str = "pvc-1", **changes: Any) -> pb.CreateVolumeRequest:
    return pb.CreateVolumeRequest(**{"name": name, "volume_capabilities": [capability()], **changes})


def size(required: int = 0, limit: int = 0) -> pb.CapacityRange:
    return pb.CapacityRange(required_bytes=required, limit_bytes=limit)


def with_mount(**mount: Any) -> pb.VolumeCapability:
    return pb.VolumeCapability(mount=pb.VolumeCapability.MountVolume(**mount), access_mode=capability().access_mode)


async def refused(call: Awaitable[Any], code: grpc.StatusCode, *words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    message = refusal.value.details() or ""
    assert refusal.value.code() is code, message
    for word in words:
        assert word in message


async def test_capabilities(edge: Edge) -> None:
    reply = await edge.controller.ControllerGetCapabilities(pb.ControllerGetCapabilitiesRequest())
    assert {Rpc.Type.Name(each.rpc.type) for each in reply.capabilities} == {
        "CREATE_DELETE_VOLUME",
        "LIST_VOLUMES",
        "GET_CAPACITY",
        "GET_VOLUME",
        "VOLUME_CONDITION",
        "EXPAND_VOLUME",
        "MODIFY_VOLUME",
        "SINGLE_NODE_MULTI_WRITER",
        "CREATE_DELETE_SNAPSHOT",
        "LIST_SNAPSHOTS",
        "GET_SNAPSHOT",
        "CLONE_VOLUME",
    }


# --- create -----------------------------------------------------------------------------------


async def test_create_asks_the_service_and_tells_the_node_what_it_needs(edge: Edge) -> None:
    reply = await edge.controller.CreateVolume(
        create(capacity_range=size(2 * GIB, 3 * GIB), parameters={"volumeType": "disperse:4:2", "pingTimeout": "20"})
    )
    (asked,) = edge.volumes.created
    assert (asked.name, asked.required, asked.limit) == ("pvc-1", 2 * GIB, 3 * GIB)
    assert asked.spec.durability == Durability(Protection.DISPERSE, 4, 2)
    (volume,) = edge.volumes.volumes.values()
    assert reply.volume == pb.Volume(
        volume_id=volume.id,
        capacity_bytes=2 * GIB,
        volume_context={
            "glusterVolume": volume.gluster_name,
            "servers": "10.0.0.1,10.0.0.2",
            "pingTimeout": "20",
            "gid": "2000",
        },
    )


def zone(*zones: str) -> pb.TopologyRequirement:
    return pb.TopologyRequirement(requisite=[pb.Topology(segments={KEY: zone}) for zone in zones])


async def test_the_zones_that_are_asked_for_confine_the_volume(edge: Edge) -> None:
    reply = await edge.controller.CreateVolume(create(accessibility_requirements=zone("3", "1", "3")))
    assert edge.volumes.created[0].spec.zones == (1, 3)
    assert [dict(place.segments) for place in reply.volume.accessible_topology] == [{KEY: "1"}, {KEY: "3"}]
    valid = pb.ValidateVolumeCapabilitiesRequest(
        volume_id=reply.volume.volume_id, volume_capabilities=[capability()], parameters={"volumeType": "replicate:3"}
    )
    assert (await edge.controller.ValidateVolumeCapabilities(valid)).HasField("confirmed")
    elsewhere = pb.TopologyRequirement(requisite=[pb.Topology(segments={"kubernetes.io/hostname": "n1"})])
    await edge.controller.CreateVolume(create("pvc-2", accessibility_requirements=elsewhere))
    assert edge.volumes.created[1].spec.zones == ()
    wrong = create("pvc-3", accessibility_requirements=zone("eu-west-1a"))
    await refused(edge.controller.CreateVolume(wrong), Code.INVALID_ARGUMENT, KEY, "eu-west-1a")


async def test_the_owner_of_a_claim_is_told_of_parameters_without_effect() -> None:
    told = []

    class Notices:
        async def tell(self, *words: str) -> None:
            told.append(words)

    uid = "0f8ae0c2-9a1c-4a9e-8d5b-0d2f2f3c1a11"
    of_claim = {"csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "shop"}
    controller = ControllerService(
        *(cast(Volumes, FakeVolumes()), cast(Expansion, None), cast(Modification, None), cast(Snapshots, None)),
        Notices(),
    )
    for name, parameters in (
        (f"pvc-{uid}", {"resturl": "http://heketi:8080", "secretName": "s", **of_claim}),
        (f"pvc-{uid}", of_claim),
        ("by-hand", {"resturl": "http://heketi:8080", **of_claim}),
        (f"pvc-{uid}", {"resturl": "http://heketi:8080"}),
    ):
        await controller.CreateVolume(create(name, parameters=parameters), object())
    ((*claim, reason, text),) = told
    assert (claim, reason) == (["shop", "data", uid], "ParametersUnused")
    assert "resturl, secretName" in text


async def test_create_without_a_size_leaves_it_to_the_service(edge: Edge) -> None:
    await edge.controller.CreateVolume(create())
    assert (edge.volumes.created[0].required, edge.volumes.created[0].limit) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, ["name", "required"]),
        ({"name": "x" * 129}, ["name", "128"]),
        ({"name": "ü" * 65}, ["name", "130"]),
        ({"name": "a\x00b"}, ["name", "control"]),
        ({"name": "a\nb"}, ["name", "control"]),
        ({"name": "a\x85b"}, ["name", "control"]),
        ({"volume_capabilities": []}, ["volume_capabilities", "required"]),
        ({"volume_capabilities": [pb.VolumeCapability()]}, ["access_type"]),
        ({"volume_capabilities": [capability(), block()]}, ["block", "Filesystem"]),
        ({"volume_capabilities": [capability(0)]}, ["access_mode", "MULTI_NODE_MULTI_WRITER"]),
        ({"volume_capabilities": [capability(99)]}, ["access_mode", "99"]),
        ({"volume_capabilities": [with_mount(fs_type="ext4")]}, ["fs_type", "ext4", "csi.storage.k8s.io/fstype"]),
        ({"volume_capabilities": [with_mount(mount_flags=["no-such-flag"])]}, ["mount flag", "no-such-flag"]),
        ({"capacity_range": size(-1)}, ["required_bytes", "-1"]),
        ({"capacity_range": size(0, -7)}, ["limit_bytes", "-7"]),
        ({"capacity_range": size(9, 8)}, ["limit_bytes", "8", "9"]),
        ({"parameters": {"noSuchParameter": "x"}}, ["noSuchParameter", "volumeType"]),
        ({"parameters": {"gidMin": "x"}}, ["gidMin", "x"]),
        ({"mutable_parameters": {"speed": "11"}}, ["mutable_parameters", "speed"]),
        ({"volume_content_source": pb.VolumeContentSource()}, ["volume_content_source", "a snapshot or a volume"]),
        (
            {"volume_content_source": pb.VolumeContentSource(volume=pb.VolumeContentSource.VolumeSource())},
            ["volume_content_source.volume.volume_id", "required"],
        ),
    ],
)
async def test_create_refuses(edge: Edge, changes: dict[str, Any], words: list[str]) -> None:
    await refused(edge.controller.CreateVolume(create(**changes)), Code.INVALID_ARGUMENT, *words)
    assert edge.volumes.created == []


@pytest.mark.parametrize("name", ["x" * 128, "ü" * 64, "$(rm -rf /) `id` 'x' \"y\"", "a/../b"])
async def test_create_takes_any_printable_name(edge: Edge, name: str) -> None:
    await edge.controller.CreateVolume(create(name))
    assert edge.volumes.created[0].name == name


@pytest.mark.parametrize("mode", MODES)
async def test_create_serves_every_access_mode(edge: Edge, mode: int) -> None:
    for fs_type in ("", "glusterfs"):
        asked = with_mount(fs_type=fs_type)
        asked.access_mode.mode = mode  # type: ignore[assignment]
        await edge.controller.CreateVolume(create(volume_capabilities=[asked]))
    assert len(edge.volumes.created) == 2


# --- delete -----------------------------------------------------------------------------------


async def test_delete(edge: Edge) -> None:
    volume = edge.volumes.add("pvc-1")
    await edge.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id=volume.id, secrets={"any": "thing"}))
    await edge.controller.DeleteVolume(pb.DeleteVolumeRequest(volume_id="none-exist-id"))
    assert edge.volumes.deleted == [volume.id, "none-exist-id"]
    await refused(edge.controller.DeleteVolume(pb.DeleteVolumeRequest()), Code.INVALID_ARGUMENT, "volume_id")


# --- validate ---------------------------------------------------------------------------------


def validate(volume_id: str, **changes: Any) -> pb.ValidateVolumeCapabilitiesRequest:
    return pb.ValidateVolumeCapabilitiesRequest(
        **{"volume_id": volume_id, "volume_capabilities": [capability()], **changes}
    )


async def test_validate_confirms_what_was_asked(edge: Edge) -> None:
    volume = (await edge.controller.CreateVolume(create(parameters={"volumeType": "replicate:2"}))).volume
    context = {**volume.volume_context, "storage.kubernetes.io/csiProvisionerIdentity": "x"}
    parameters = {"volumetype": "replicate:2"}
    reply = await edge.controller.ValidateVolumeCapabilities(
        validate(volume.volume_id, volume_context=context, parameters=parameters)
    )
    assert reply.message == ""
    assert list(reply.confirmed.volume_capabilities) == [capability()]
    assert dict(reply.confirmed.volume_context) == context
    assert dict(reply.confirmed.parameters) == parameters


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"volume_capabilities": [capability(), block()]}, "block"),
        ({"volume_capabilities": [with_mount(fs_type="xfs")]}, "xfs"),
        ({"volume_context": {"glusterVolume": "vol_other", "servers": "10.0.0.1"}}, "vol_other"),
        ({"volume_context": {"glusterVolume": "-x", "servers": "10.0.0.1"}}, "-x"),
        ({"parameters": {"volumeType": "none"}}, "parameters"),
        ({"parameters": {"noSuchParameter": "1"}}, "noSuchParameter"),
        ({"mutable_parameters": {"a": "b"}}, "mutable_parameters"),
        ({"mutable_parameters": {"profile": "virt"}}, "mutable_parameters"),
    ],
)
async def test_validate_tells_what_it_can_not_confirm(edge: Edge, changes: dict[str, Any], word: str) -> None:
    volume = edge.volumes.add("pvc-1")
    reply = await edge.controller.ValidateVolumeCapabilities(validate(volume.id, **changes))
    assert not reply.HasField("confirmed")
    assert word in reply.message


async def test_validate_looks_at_its_arguments_first(edge: Edge) -> None:
    call = edge.controller.ValidateVolumeCapabilities
    await refused(call(validate("")), Code.INVALID_ARGUMENT, "volume_id")
    await refused(call(validate("none", volume_capabilities=[])), Code.INVALID_ARGUMENT, "volume_capabilities")
    await refused(call(validate("fake-vol-id")), Code.NOT_FOUND, "fake-vol-id")


# --- expand -----------------------------------------------------------------------------------


async def test_expand_answers_with_the_size(edge: Edge) -> None:
    volume = edge.volumes.add("pvc-1")
    request = pb.ControllerExpandVolumeRequest(
        volume_id=volume.id,
        capacity_range=pb.CapacityRange(required_bytes=2 * GIB, limit_bytes=3 * GIB),
        volume_capability=capability(),
    )
    reply = await edge.controller.ControllerExpandVolume(request)
    assert (reply.capacity_bytes, reply.node_expansion_required) == (2 * GIB, False)
    assert edge.expansion.asked == [ExpandRequest(volume.id, 2 * GIB, 3 * GIB)]


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"volume_id": ""}, Code.INVALID_ARGUMENT, "volume_id"),
        ({"capacity_range": None}, Code.INVALID_ARGUMENT, "capacity_range"),
        ({"capacity_range": pb.CapacityRange(required_bytes=-1)}, Code.INVALID_ARGUMENT, "required_bytes"),
        ({"capacity_range": pb.CapacityRange(required_bytes=2, limit_bytes=1)}, Code.INVALID_ARGUMENT, "limit_bytes"),
        ({"volume_capability": block()}, Code.INVALID_ARGUMENT, "block"),
        ({"volume_id": "fake-vol-id"}, Code.NOT_FOUND, "fake-vol-id"),
    ],
)
async def test_expand_refuses(edge: Edge, changes: dict[str, Any], code: grpc.StatusCode, word: str) -> None:
    fields: dict[str, Any] = {
        "volume_id": edge.volumes.add("pvc-1").id,
        "capacity_range": pb.CapacityRange(required_bytes=2 * GIB),
        **changes,
    }
    await refused(edge.controller.ControllerExpandVolume(pb.ControllerExpandVolumeRequest(**fields)), code, word)


# --- modify -----------------------------------------------------------------------------------


async def test_modify(edge: Edge) -> None:
    volume = edge.volumes.add("pvc-1")
    parameters = {"profile": "virt", "arbiter": "true"}
    await edge.controller.ControllerModifyVolume(
        pb.ControllerModifyVolumeRequest(volume_id=volume.id, mutable_parameters=parameters)
    )
    assert edge.modification.asked == [ModifyRequest.of(volume.id, parameters)]
    call = edge.controller.ControllerModifyVolume
    await refused(call(pb.ControllerModifyVolumeRequest()), Code.INVALID_ARGUMENT, "volume_id")
    await refused(call(pb.ControllerModifyVolumeRequest(volume_id="fake")), Code.NOT_FOUND, "fake")


async def test_create_takes_mutable_parameters_before_those_of_the_class(edge: Edge) -> None:
    parameters = {"volumeType": "replicate:2", "volumeOptions": "performance.io-cache on,features.shard on"}
    mutable = {"volumeType": "replicate:3", "volumeOptions": "performance.io-cache off", "profile": "virt"}
    volume = (await edge.controller.CreateVolume(create(parameters=parameters, mutable_parameters=mutable))).volume
    (asked,) = edge.volumes.created
    assert asked.spec.durability == Durability(Protection.REPLICATE, 1, 2)
    assert asked.spec.options == (("performance.io-cache", "off"), ("features.shard", "on"))
    assert asked.spec.profile == "virt"
    reply = await edge.controller.ValidateVolumeCapabilities(validate(volume.volume_id, mutable_parameters=mutable))
    assert dict(reply.confirmed.mutable_parameters) == mutable


# --- list, get --------------------------------------------------------------------------------


async def test_list_pages(edge: Edge) -> None:
    ids = [edge.volumes.add(f"pvc-{i}").id for i in range(5)]
    seen: list[str] = []
    token = ""
    for expected in (2, 2, 1):
        reply = await edge.controller.ListVolumes(pb.ListVolumesRequest(max_entries=2, starting_token=token))
        assert len(reply.entries) == expected
        seen += [entry.volume.volume_id for entry in reply.entries]
        token = reply.next_token
    assert token == ""
    assert seen == ids
    assert len((await edge.controller.ListVolumes(pb.ListVolumesRequest())).entries) == 5


async def test_list_tells_conditions(edge: Edge) -> None:
    good, bad = edge.volumes.add("good"), edge.volumes.add("bad")
    edge.volumes.unhealthy.add(bad.id)
    reply = await edge.controller.ListVolumes(pb.ListVolumesRequest())
    found = {entry.volume.volume_id: entry.status.volume_condition for entry in reply.entries}
    assert not found[good.id].abnormal
    assert found[bad.id].abnormal
    assert found[bad.id].message == "1 of 3 bricks is offline"


async def test_list_refuses(edge: Edge) -> None:
    await refused(
        edge.controller.ListVolumes(pb.ListVolumesRequest(max_entries=-1)), Code.INVALID_ARGUMENT, "max_entries", "-1"
    )
    await refused(
        edge.controller.ListVolumes(pb.ListVolumesRequest(starting_token="invalid-token")),
        Code.ABORTED,
        "invalid-token",
    )


async def test_get(edge: Edge) -> None:
    volume = edge.volumes.add("pvc-1", 3 * GIB)
    reply = await edge.controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=volume.id))
    assert (reply.volume.volume_id, reply.volume.capacity_bytes) == (volume.id, 3 * GIB)
    assert reply.status.volume_condition == pb.VolumeCondition(abnormal=False, message="all bricks are online")
    get = edge.controller.ControllerGetVolume
    await refused(get(pb.ControllerGetVolumeRequest()), Code.INVALID_ARGUMENT, "volume_id")
    await refused(get(pb.ControllerGetVolumeRequest(volume_id="../../etc")), Code.NOT_FOUND, "../../etc")


async def test_a_pool_that_does_not_answer_is_abnormal(edge: Edge) -> None:
    volume = edge.volumes.add("pvc-1")
    edge.volumes.failure = HostUnreachable("h1", "refused")
    reply = await edge.controller.ControllerGetVolume(pb.ControllerGetVolumeRequest(volume_id=volume.id))
    assert reply.status.volume_condition.abnormal
    assert "h1" in reply.status.volume_condition.message


# --- capacity ---------------------------------------------------------------------------------


async def test_capacity_is_that_of_the_class(edge: Edge) -> None:
    async def available(**changes: Any) -> pb.GetCapacityResponse:
        return await edge.controller.GetCapacity(pb.GetCapacityRequest(**changes))

    usual = await available()
    assert usual.available_capacity == 30 * GIB
    assert usual.maximum_volume_size.value == 4 * GIB
    assert usual.minimum_volume_size.value == GIB // 64
    assert (await available(parameters={"volumeType": "none"})).available_capacity == 10 * GIB
    assert (await available(volume_capabilities=[capability()])) == usual
    nothing = await available(volume_capabilities=[block()])
    assert (nothing.available_capacity, nothing.maximum_volume_size.value) == (0, 0)
    await refused(
        edge.controller.GetCapacity(pb.GetCapacityRequest(parameters={"gidMin": "x"})), Code.INVALID_ARGUMENT, "gidMin"
    )

"""No secret reaches a log line, whichever message it is in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from csi.api import admin_pb2
from csi.api import csi_pb2 as pb
from csi.driver.sanitize import STRIPPED, loggable

SECRET = "hunter2-the-password"


def secret_fields() -> Iterator[tuple[Descriptor, FieldDescriptor]]:
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            if field.GetOptions().Extensions[pb.csi_secret]:
                yield message, field


def test_the_contract_has_as_many_marks_as_it_has_requests_with_secrets() -> None:
    assert len(list(secret_fields())) == 19


@pytest.mark.parametrize(("kind", "field"), [pytest.param(k, f, id=k.name) for k, f in secret_fields()])
def test_marked_fields_are_stripped(kind: Descriptor, field: FieldDescriptor) -> None:
    message: Message = GetMessageClass(kind)()
    getattr(message, field.name)["key"] = SECRET
    assert loggable(message) == {field.name: STRIPPED}


def test_what_the_contract_forgot_to_mark() -> None:
    request = pb.NodePublishVolumeRequest(
        volume_id="v",
        volume_capability=pb.VolumeCapability(
            mount=pb.VolumeCapability.MountVolume(mount_flags=["password=" + SECRET])
        ),
        volume_context={"csi.storage.k8s.io/serviceAccount.tokens": SECRET, "gid": "2000"},
    )
    assert loggable(request) == {
        "volume_id": "v",
        "volume_capability": {"mount": {"mount_flags": STRIPPED}},
        "volume_context": {"csi.storage.k8s.io/serviceAccount.tokens": STRIPPED, "gid": "2000"},
    }


def test_the_password_of_an_old_storage_class() -> None:
    request = pb.CreateVolumeRequest(parameters={"RestUserKey": SECRET, "volumeType": "none"})
    assert loggable(request) == {"parameters": {"RestUserKey": STRIPPED, "volumeType": "none"}}


def test_nested_and_repeated_messages_are_readable() -> None:
    mode = pb.VolumeCapability.AccessMode(mode=pb.VolumeCapability.AccessMode.MULTI_NODE_MULTI_WRITER)
    request = pb.CreateVolumeRequest(
        name="pvc-1",
        capacity_range=pb.CapacityRange(required_bytes=5),
        volume_capabilities=[pb.VolumeCapability(access_mode=mode), pb.VolumeCapability()],
    )
    assert loggable(request) == {
        "name": "pvc-1",
        "capacity_range": {"required_bytes": 5},
        "volume_capabilities": [{"access_mode": {"mode": "MULTI_NODE_MULTI_WRITER"}}, {}],
    }


def test_a_number_that_the_contract_does_not_know_is_shown() -> None:
    request = pb.ListVolumesRequest(starting_token="x" * 300)
    assert loggable(request) == {"starting_token": "x" * 256 + "..."}
    mode = pb.VolumeCapability.AccessMode(mode=99)  # type: ignore[arg-type]
    assert loggable(mode) == {"mode": 99}


def test_bytes_are_only_counted() -> None:
    assert loggable(admin_pb2.LoadTopologyRequest(topology_json=b"{}")) == {"topology_json": "(2 bytes)"}

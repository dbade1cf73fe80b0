"""The transcribed contract is the published one, to the last option."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "tests" / "proto"


def compiled(file: str, directory: Path, proto: Path = ROOT / "proto") -> FileDescriptorProto:
    out = directory / "set.binpb"
    well_known = resources.files("grpc_tools") / "_proto"
    status = protoc.main(["protoc", f"--proto_path={proto}", f"--proto_path={well_known}", f"-o{out}", file])
    assert status == 0
    (only,) = FileDescriptorSet.FromString(out.read_bytes()).file
    return only


def published(name: str = "csi-v1") -> FileDescriptorProto:
    (only,) = FileDescriptorSet.FromString((PUBLISHED / f"{name}.binpb").read_bytes()).file
    return only


def differences(ours: FileDescriptorProto, theirs: FileDescriptorProto) -> str:
    """Empty when equal. Only the file's own name may differ; options of the contract are compared as they
    are on the wire, whether or not this process knows the extensions.
    """
    for file in (ours, theirs):
        file.ClearField("name")
        for method in (m for service in file.service for m in service.method):
            # "rpc X(..) returns (..) {}" leaves an empty set of options, "returns (..);" leaves none.
            if not method.options.ByteSize():
                method.ClearField("options")
    if ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True):
        return ""
    known = set(str(theirs).splitlines())
    lines = [line for line in str(ours).splitlines() if line not in known]
    return "\n".join(lines) or "the same parts, in another order or with other options"


def fields(message: DescriptorProto) -> Iterator[FieldDescriptorProto]:
    yield from message.field
    for nested in message.nested_type:
        yield from fields(nested)


def test_csi_is_the_published_contract(tmp_path: Path) -> None:
    assert differences(compiled("csi/api/csi.proto", tmp_path), published()) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("string volume_id = 1;", "string volume_id = 15;"),
        (" [(csi_secret) = true]", ""),
        ("SINGLE_NODE_SINGLE_WRITER = 6 [(alpha_enum_value) = true]", "SINGLE_NODE_SINGLE_WRITER = 6"),
        ("int64 limit_bytes = 2;", "uint64 limit_bytes = 2;"),
    ],
)
def test_the_comparison_sees(right: str, wrong: str, tmp_path: Path) -> None:
    text = (ROOT / "proto/csi/api/csi.proto").read_text()
    assert right in text
    (tmp_path / "csi.proto").write_text(text.replace(right, wrong, 1))
    assert differences(compiled("csi.proto", tmp_path, tmp_path), published()) != ""


def test_the_stubs_are_of_this_contract() -> None:
    """Stubs of an older ``proto/`` mean that the project must be installed again."""
    from csi.api import csi_pb2

    loaded = FileDescriptorProto()
    csi_pb2.DESCRIPTOR.CopyToProto(loaded)
    expected = published()
    for holder in (loaded, expected):  # protoc leaves them out of Python stubs, since they follow from the names
        for field in [*holder.extension, *(f for m in holder.message_type for f in fields(m))]:
            field.ClearField("json_name")
    assert differences(loaded, expected) == ""
    assert csi_pb2.DESCRIPTOR.name == "csi/api/csi.proto"


def test_plugin_registration_is_the_published_contract(tmp_path: Path) -> None:
    """The descriptor is that of k8s.io/kubelet v0.36.3."""
    theirs = published("pluginregistration-v1")
    assert [m.name for m in theirs.service[0].method] == ["GetInfo", "NotifyRegistrationStatus"]
    assert differences(compiled("csi/api/pluginregistration.proto", tmp_path), theirs) == ""


def test_the_admin_contract_is_not_in_the_way_of_csi(tmp_path: Path) -> None:
    admin = compiled("csi/api/admin.proto", tmp_path)
    assert admin.package == "gluster.csi.admin.v1"
    assert [(s.name, [m.name for m in s.method]) for s in admin.service] == [("Admin", ["LoadTopology"])]
    assert admin.service[0].method[0].server_streaming

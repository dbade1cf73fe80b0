"""The JSON form of records and identities."""

from __future__ import annotations

import json

import pytest
from immutables import Map

from csi.core import documents
from csi.core.model import (
    Backend,
    Brick,
    BrickId,
    BrickIdentity,
    BrickRole,
    ClusterId,
    Device,
    DeviceId,
    Gid,
    Host,
    HostId,
    TagRule,
    VolumeId,
    VolumeSpec,
)

BRICK = Brick(
    BrickId("b" * 32),
    set=1,
    index=2,
    host_id=HostId("h" * 32),
    device_id=DeviceId("d" * 32),
    size=1 << 30,
    footprint=(1 << 30) + 4096,
    path="/bricks/b/brick",
    role=BrickRole.ARBITER,
)
IDENTITY = BrickIdentity(
    instance="default",
    volume_id=VolumeId("a" * 32),
    volume_name="pvc-ü\n\U0001f600",
    gluster_name="vol_x",
    cluster_id=ClusterId("c" * 32),
    volume_size=5 << 40,
    spec=VolumeSpec(
        options=(("performance.readdir-ahead", "on"),), device_tag=TagRule("disk", "ssd", equal=False), snap_factor=1.5
    ),
    gid=Gid(2001),
    brick=BRICK,
)


def test_what_is_written_reads_back_equal() -> None:
    assert documents.decode(documents.encode(IDENTITY), BrickIdentity) == IDENTITY


def test_equal_values_are_equal_bytes() -> None:
    def device(tags: dict[str, str]) -> Device:
        return Device(DeviceId("d"), HostId("h"), "/dev/sdb", Backend.LVM, 1, tags=tags)

    assert documents.encode(device({"a": "1", "b": "2"})) == documents.encode(device({"b": "2", "a": "1"}))


def test_enums_and_sizes_are_written_plainly() -> None:
    plain = json.loads(documents.encode(IDENTITY))
    assert plain["brick"]["role"] == "arbiter"
    assert plain["volume_size"] == 5 << 40
    assert plain["spec"]["options"] == [["performance.readdir-ahead", "on"]]
    assert plain["schema"] == 1


def test_any_mapping_may_be_tags() -> None:
    host = Host(HostId("h"), ClusterId("c"), "a", "b", 1, tags=Map({"rack": "1"}))
    assert documents.decode(documents.encode(host), Host).tags == {"rack": "1"}


def test_unknown_fields_are_passed_over() -> None:
    plain = json.loads(documents.encode(IDENTITY))
    plain["colour"] = "red"
    plain["spec"]["later"] = [1]
    assert documents.decode(json.dumps(plain), BrickIdentity) == IDENTITY


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\x00" * 40, "malformed"),
        (b'{"id": "\xff\xfe"}', "utf-8"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `id`"),
        (b"[" * 100_000, ""),
    ],
)
def test_rubbish_is_a_value_error_that_says_why(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match="not a valid Host document") as caught:
        documents.decode(data, Host)
    assert says.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("field", "value"), [("size", "1"), ("size", 1.5), ("role", "boss"), ("path", None), ("set", True)]
)
def test_a_wrong_type_is_refused_by_name(field: str, value: object) -> None:
    plain = json.loads(documents.encode(BRICK))
    plain[field] = value
    with pytest.raises(ValueError, match=rf"\$\.{field}"):
        documents.decode(json.dumps(plain), Brick)


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        documents.encode(object())

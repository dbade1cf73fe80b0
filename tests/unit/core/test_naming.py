"""Ids, names and paths: derived from names alone, the same for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from csi.core import naming
from csi.core.model import BrickId, DeviceId, HostId, OperationKind, VolumeId

VOLUME = naming.volume_id("pvc-1")


def test_ids_never_change_between_releases() -> None:
    """Volumes are found again by these; another value here means that every pool in use is lost."""
    assert naming.volume_id("pvc-1") == "a6e1b97f35f15e735b4e2ed14ffcd254"
    assert naming.brick_id(VOLUME, 0, 1) == "809658e54a4e793a35e4e69a14f22a4c"
    assert naming.brick_id(VOLUME, 0, 1, generation=1) == "139ff012d57e94c46a124b3ced5a936c"
    assert naming.operation_id(OperationKind.CREATE, VOLUME) == "e438cc4e42710c71e9312a750e4d6ba0"
    assert naming.host_id("host1") == "c3d345081aaa962e303a7ea1c8fef12e"
    assert naming.device_id(HostId("h"), "/dev/vdb") == "1e2ab83c38fa78e4e5e4eb1c87ff50f5"
    assert naming.cluster_id("host1") == "7128e6ed3408c4843277ef51debce481"


@given(st.text(), st.text())
def test_ids_are_32_hex_digits_and_tell_names_apart(one: str, other: str) -> None:
    assert naming.is_id(naming.volume_id(one))
    assert (naming.volume_id(one) == naming.volume_id(other)) is (one == other)


def test_kinds_never_share_an_id() -> None:
    name = "x"
    ids = {naming.volume_id(name), naming.host_id(name), naming.cluster_id(name)}
    ids |= {naming.operation_id(kind, VolumeId(name)) for kind in OperationKind}
    assert len(ids) == 3 + len(OperationKind)


def test_every_brick_of_a_volume_has_an_id_of_its_own() -> None:
    ids = {naming.brick_id(VOLUME, s, i, g) for s in range(12) for i in range(12) for g in range(3)}
    assert len(ids) == 12 * 12 * 3


def test_what_is_no_id() -> None:
    for text in ("", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n", "../" + "0" * 29):
        assert not naming.is_id(text)


def test_a_gluster_volume_is_named_as_heketi_names_it() -> None:
    assert naming.gluster_name(VOLUME) == f"vol_{VOLUME}"
    assert naming.gluster_name(VOLUME, "team") == f"team_{VOLUME}"


def test_paths_of_a_brick() -> None:
    device, brick = DeviceId("d" * 32), BrickId("b" * 32)
    mount = f"/var/lib/gluster-csi/bricks/{device}/{brick}"
    assert naming.brick_mount(device, brick) == mount
    assert naming.brick_directory(device, brick) == f"{mount}/brick"
    assert naming.brick_identity(device, brick) == f"{mount}/brick.json"
    assert naming.brick_image("/srv/disk/", brick) == f"/srv/disk/{brick}.img"

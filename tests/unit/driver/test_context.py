"""volume_context: there and back, and nothing but what it should hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core.errors import InvalidRequest
from csi.core.model import Gid
from csi.driver.context import VolumeContext

GOOD = {"glusterVolume": "vol_1", "servers": "10.0.0.1,gl-2.example", "pingTimeout": "12", "gid": "2001"}


def test_there_and_back() -> None:
    context = VolumeContext.from_map(GOOD)
    assert context == VolumeContext("vol_1", ("10.0.0.1", "gl-2.example"), 12, Gid(2001))
    assert context.to_map() == GOOD


def test_by_hand_with_the_least() -> None:
    context = VolumeContext.from_map({"glusterVolume": "v", "servers": " a , b,a,2001:db8::1"})
    assert context == VolumeContext("v", ("a", "b", "2001:db8::1"), 8, None)
    assert "gid" not in context.to_map()


def test_keys_of_others_are_passed_over() -> None:
    extra = {"storage.kubernetes.io/csiProvisionerIdentity": "1-csi.gluster.org", "csi.storage.k8s.io/pod.name": "p"}
    assert VolumeContext.from_map({**GOOD, **extra}) == VolumeContext.from_map(GOOD)


@pytest.mark.parametrize("key", ["glusterVolume", "servers"])
def test_what_is_required(key: str) -> None:
    with pytest.raises(InvalidRequest, match=f"volume_context.{key}"):
        VolumeContext.from_map({k: v for k, v in GOOD.items() if k != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("glusterVolume", "-x"),
        ("glusterVolume", "a/b"),
        ("glusterVolume", "a b"),
        ("glusterVolume", "a\n"),
        ("glusterVolume", "ä"),
        ("glusterVolume", "v" * 256),
        ("servers", "a,,b"),
        ("servers", "a,"),
        ("servers", "--volfile=/etc/passwd"),
        ("servers", "a;reboot"),
        ("servers", "a$(id)"),
        ("servers", "a b"),
        ("servers", "a:24007"),
        ("servers", "fe80::1%eth0"),
        ("servers", "a..b"),
        ("servers", "x" * 64),
        ("servers", ".".join(["x" * 60] * 5)),
        ("servers", ",".join(f"h{i}" for i in range(65))),
        ("pingTimeout", "0"),
        ("pingTimeout", "1014"),
        ("pingTimeout", "-1"),
        ("pingTimeout", "1.5"),
        ("pingTimeout", "٣"),
        ("pingTimeout", "010"),
        ("pingTimeout", ""),
        ("gid", "-1"),
        ("gid", "4294967295"),
        ("gid", "root"),
        ("gid", "99999999999"),
    ],
)
def test_what_is_refused_by_field(key: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"volume_context.{key}"):
        VolumeContext.from_map({**GOOD, key: value})


@given(st.text(max_size=60), st.text(max_size=60))
def test_what_reaches_the_client_has_no_syntax(volume: str, servers: str) -> None:
    try:
        context = VolumeContext.from_map({"glusterVolume": volume, "servers": servers})
    except InvalidRequest:
        return
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:")
    for text in (context.gluster_volume, *context.servers):
        assert set(text) <= allowed
        assert not text.startswith("-")


def test_nodes_spread_over_the_servers_each_always_alike() -> None:
    context = VolumeContext("v", ("a", "b", "c"))
    first = Counter(context.servers_for(f"node-{i}")[0] for i in range(300))
    assert all(70 <= first[server] <= 130 for server in "abc")
    assert context.servers_for("node-1") == VolumeContext("v", ("c", "b", "a")).servers_for("node-1")
    # The nodes of one server stand by at both of the others.
    second = Counter(order[1] for i in range(300) if (order := context.servers_for(f"node-{i}"))[0] == "a")
    assert min(second["b"], second["c"]) >= 20

"""The topology file: Heketi's format, and all its problems at once."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core import topologyfile
from csi.core.errors import InvalidRequest
from csi.core.topologyfile import ClusterEntry, DeviceEntry, NodeEntry, TopologyFile


def node(manage: str, storage: str, zone: int = 1, devices: Any = ("/dev/sdb",), **more: Any) -> dict[str, Any]:
    return {
        "node": {"hostnames": {"manage": [manage], "storage": [storage]}, "zone": zone, **more},
        "devices": list(devices),
    }


def file(*nodes: Any, **more: Any) -> str:
    return json.dumps({"clusters": [{"nodes": list(nodes), **more}]})


def problems(data: bytes | str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        topologyfile.parse(data)
    assert caught.value.field == "topology"
    return caught.value.allowed


def test_a_file_of_heketi_is_read() -> None:
    devices = [
        "/dev/sdb",
        {"name": "/dev/disk/by-id/scsi-3600:1", "destroydata": False, "tags": {"disk": "ssd-1", "arbiter": "required"}},
    ]
    data = file(
        node("node1.example.com", "192.168.68.3", 1, devices, tags={"rack": "a"}),
        node("node2.example.com", "192.168.68.2", 2, ["/srv/d0"]),
        file=True,
        block=False,
    )
    assert topologyfile.parse(data) == TopologyFile(
        (
            ClusterEntry(
                (
                    NodeEntry(
                        "node1.example.com",
                        "192.168.68.3",
                        1,
                        (
                            DeviceEntry("/dev/sdb"),
                            DeviceEntry("/dev/disk/by-id/scsi-3600:1", {"disk": "ssd-1", "arbiter": "required"}),
                        ),
                        {"rack": "a"},
                    ),
                    NodeEntry("node2.example.com", "192.168.68.2", 2, (DeviceEntry("/srv/d0"),)),
                )
            ),
        )
    )


def test_several_clusters_and_hosts_without_devices() -> None:
    data = json.dumps(
        {"clusters": [{"nodes": [node("a", "10.0.0.1", devices=())]}, {"nodes": [node("b", "10.0.0.2")]}]}
    )
    found = topologyfile.parse(data.encode())
    assert [[n.manage for n in cluster.nodes] for cluster in found.clusters] == [["a"], ["b"]]
    assert found.clusters[0].nodes[0].devices == ()


def test_what_is_dumped_parses() -> None:
    plain = {"clusters": [{"nodes": [node("a", "10.0.0.1")]}]}
    assert topologyfile.parse(topologyfile.dump(plain)) == topologyfile.parse(json.dumps(plain))


@pytest.mark.parametrize("name", ["a", "n1.example.com", "10.0.0.1", "fd00::1", "x-1", "1a"])
def test_names_of_hosts(name: str) -> None:
    found = topologyfile.parse(file(node(name, name))).clusters[0].nodes[0]
    assert (found.manage, found.storage) == (name, name)


@pytest.mark.parametrize("name", ["n1:2222", "10.0.0.1:22", "[fd00::1]", "[fd00::1]:2222"])
def test_only_the_managed_name_may_have_a_port(name: str) -> None:
    assert topologyfile.parse(file(node(name, "10.0.0.1"))).clusters[0].nodes[0].manage == name
    assert "storage" in problems(file(node("n1", name)))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "a b",
        "a;reboot",
        "$(id)",
        "a_b",
        "a..b",
        "a" * 64,
        "10.0.0.256",
        "1.2.3",
        "fe80::1%eth0",
        "a:0",
        "a:65536",
        "a:22:22",
        "[fd00::1]:",
        "ü",
        "a\n",
        7,
    ],
)
def test_what_is_no_name_of_a_host(name: Any) -> None:
    assert "hostnames.manage" in problems(file(node(name, "10.0.0.1")))


@pytest.mark.parametrize("names", [[], ["a", "b"], None, {}, [["a"]]])
def test_each_host_has_one_name(names: Any) -> None:
    broken = node("a", "10.0.0.1")
    broken["node"]["hostnames"]["storage"] = names
    assert "one host name or IP address" in problems(file(broken))


@pytest.mark.parametrize(
    "path",
    ["sdb", "", "/", "//dev/sdb", "/dev/../sdb", "/dev/./sdb", "/dev/sdb/", "/dev/s db", "/dev/$(id)", "/x\n", 5, None],
)
def test_what_is_no_device(path: Any) -> None:
    assert "devices[1]" in problems(file(node("a", "10.0.0.1", devices=["/dev/sda", path])))
    assert "devices[0]" in problems(file(node("a", "10.0.0.1", devices=[{"name": path}])))


@pytest.mark.parametrize("zone", [0, -1, 65536, "1", 1.5, True, None])
def test_what_is_no_zone(zone: Any) -> None:
    assert "node.zone" in problems(file(node("a", "10.0.0.1", zone)))


@pytest.mark.parametrize(
    "tags",
    [
        {"": "x"},
        {"a b": "x"},
        {"a": 1},
        {"a": "x" * 65},
        {"a": "$(id)"},
        {"a": "x\n"},
        {"x" * 33: "x"},
        [],
        "a",
        {str(i): "" for i in range(33)},
    ],
)
def test_what_are_no_tags(tags: Any) -> None:
    assert "node.tags" in problems(file(node("a", "10.0.0.1", tags=tags)))
    assert "devices[0].tags" in problems(file(node("a", "10.0.0.1", devices=[{"name": "/d", "tags": tags}])))


def test_duplicates_are_refused_wherever_they_stand() -> None:
    data = json.dumps(
        {
            "clusters": [
                {"nodes": [node("n1", "10.0.0.1", devices=["/d", "/d"])]},
                {"nodes": [node("N1", "10.0.0.2"), node("n3", "10.0.0.1")]},
            ]
        }
    )
    found = problems(data).split("; ")
    assert len(found) == 3
    assert "clusters[0].nodes[0].devices[1]: '/d'" in found[0]
    assert "clusters[1].nodes[0].node.hostnames.manage: 'N1'" in found[1]
    assert "stands in clusters[0].nodes[0].node.hostnames too" in found[1]
    assert "clusters[1].nodes[1].node.hostnames.storage: '10.0.0.1'" in found[2]


def test_all_problems_are_told_at_once() -> None:
    broken = node("a b", "", zone=0, devices=["sdb"], tags={"?": ""})
    broken["colour"] = "red"
    found = problems(file(broken, 7)).split("; ")
    assert [problem.split(":")[0] for problem in found] == [
        "clusters[0].nodes[0]",
        "clusters[0].nodes[0].node.hostnames.manage",
        "clusters[0].nodes[0].node.hostnames.storage",
        "clusters[0].nodes[0].node.zone",
        "clusters[0].nodes[0].node.tags",
        "clusters[0].nodes[0].devices[0]",
        "clusters[0].nodes[1]",
    ]


def test_very_many_problems_are_counted() -> None:
    with pytest.raises(InvalidRequest, match=r"'300 problems'.*and 280 more$"):
        topologyfile.parse(file(node("a", "10.0.0.1", devices=["x"] * 300)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("", "a JSON document"),
        ("{", "a JSON document"),
        (b"\xff", "a JSON document"),
        ("[" * 100_000, "a JSON document"),
        ("[]", "an object with clusters"),
        ("{}", "topology.clusters: nothing"),
        ('{"clusters": []}', "not empty"),
        ('{"clusters": [{"nodes": []}]}', "clusters[0].nodes"),
        ('{"clusters": [3]}', "clusters[0]: 3"),
        ('{"clusters": [{"nodes": [{"devices": []}]}]}', "clusters[0].nodes[0].node"),
        ('{"cluster": []}', "'cluster' where there should be a key out of clusters"),
    ],
)
def test_what_is_no_topology(data: bytes | str, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        topologyfile.parse(data)
    assert says in str(caught.value)


GOOD = {
    "clusters": [{"nodes": [node("a", "10.0.0.1", tags={"a": "b"}), node("b", "10.0.0.2", devices=[{"name": "/d"}])]}]
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda c: st.lists(c, max_size=2), max_leaves=3
)


def places(plain: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


@given(place=st.sampled_from(places(GOOD)[1:]), value=JSON)
def test_anything_anywhere_is_read_or_refused_in_words(place: tuple[Any, ...], value: Any) -> None:
    broken = copy.deepcopy(GOOD)
    parent: Any = broken
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    try:
        found = topologyfile.parse(json.dumps(broken))
    except InvalidRequest:
        return
    for cluster in found.clusters:
        for entry in cluster.nodes:
            assert entry.manage
            assert entry.storage
            assert entry.zone >= 1
            assert all(device.path.startswith("/") for device in entry.devices)

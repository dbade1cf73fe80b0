"""Documents of the real tool as values."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from csi.gluster import envelope, parse

RECORDED = Path(__file__).parents[2] / "recorded" / "gluster"


def document(label: str) -> ElementTree.Element:
    answer = envelope.read("h", "any", (RECORDED / f"10.3-{label}.xml").read_bytes())
    assert answer is not None
    return answer.done()


def test_volumes() -> None:
    found = {info.volume.name: info for info in parse.volumes(document("volume-info-all"))}
    assert list(found) == ["coded", "plain", "rep"]
    assert all(info.snapshots == 0 for info in found.values())
    assert not found["coded"].volume.started
    rep = found["rep"].volume
    assert rep.started
    assert rep.uuid == "bfee8182-01fb-4807-bf2a-a6e4ed7d0e38"
    assert rep.bricks == tuple((f"192.0.2.1{n}", f"/srv/d/a/{k}/brick") for k in (0, 1) for n in (1, 2, 3))
    assert dict(rep.options)["user.text"] == 'a <b> & "c"'
    assert dict(rep.options)["performance.io-cache"] == "off"


def test_one_volume_is_the_same_as_among_all() -> None:
    (alone,) = parse.volumes(document("volume-info"))
    assert alone in parse.volumes(document("volume-info-all"))


def test_a_volume_with_a_copy_more() -> None:
    (found,) = parse.volumes(document("volume-info-after-add-brick"))
    assert found.volume.bricks == tuple((f"192.0.2.1{n}", "/srv/d0/a-0/brick") for n in (1, 2, 3))


def test_what_is_to_be_healed() -> None:
    summary = (RECORDED / "10.3-volume-heal-info-summary.xml").read_text()
    assert parse.unhealed(document("volume-heal-info-summary")) == 0
    for counts, entries in ((("2", "0", "3"), 5), (("2", "-", "3"), None)):
        text = summary
        for count in counts:
            zero = "<totalNumberOfEntries>0<"
            text = text.replace(zero, f"<totalNumberOfEntries>{count} <", 1)
        root = ElementTree.fromstring(text.replace(" </total", "</total").partition("?>")[2])
        assert parse.unhealed(root) == entries
    assert parse.unhealed(document("volume-info-all-empty")) is None


def test_how_far_a_rebalance_is() -> None:
    assert parse.rebalance(document("volume-rebalance-status-done")) == "completed"
    assert parse.rebalance(document("volume-rebalance-status-in-progress")) == "in progress"


def test_a_group_of_options() -> None:
    text = "performance.io-cache=off\n# remark\n\nclient.event-threads=4\nuser.empty=\n"
    assert parse.group(text) == (("performance.io-cache", "off"), ("client.event-threads", "4"))


def test_no_volumes() -> None:
    assert parse.volumes(document("volume-info-all-empty")) == ()


def test_snapshots_are_counted() -> None:
    found = document("volume-info")
    count = found.find("volInfo/volumes/volume/snapshotCount")
    assert count is not None
    count.text = "2"
    assert parse.volumes(found)[0].snapshots == 2


def test_bricks_online() -> None:
    online = parse.online(document("volume-status-one-down"))
    assert len(online) == 6, "bricks only, no self-heal daemons"
    assert [brick for brick, up in online.items() if not up] == [("192.0.2.11", "/srv/d/a/0/brick")]


def test_bricks_of_a_peer_that_is_down_are_not_listed() -> None:
    online = parse.online(document("volume-status-peer-down"))
    assert {address for address, _ in online} == {"192.0.2.11", "192.0.2.12"}


def test_peers() -> None:
    peers = {name: peer for peer in parse.peers(document("peer-status-one-down")) for name in peer.hostnames}
    assert peers["192.0.2.12"].connected
    assert not peers["192.0.2.13"].connected
    assert peers["192.0.2.13"].in_cluster


@pytest.mark.parametrize("state", ["0", "1", "2", "4", "5", "10"])
def test_a_peer_in_any_other_state_is_not_in_the_cluster(state: str) -> None:
    found = document("peer-status")
    for element in found.iterfind("peerStatus/peer/state"):
        element.text = state
    assert not any(peer.in_cluster for peer in parse.peers(found))


def test_an_ipv6_brick() -> None:
    found = document("volume-info")
    for name in found.iterfind("volInfo/volumes/volume/bricks/brick/name"):
        name.text = "fd00::1:/b/c"
    assert set(parse.volumes(found)[0].volume.bricks) == {("fd00::1", "/b/c")}


def test_what_lacks_a_part_is_refused() -> None:
    found = document("volume-info")
    volume = found.find("volInfo/volumes/volume")
    assert volume is not None
    volume.remove(volume.find("statusStr"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="<statusStr> in <volume>"):
        parse.volumes(found)


def test_what_stands_in_the_way_of_a_copy() -> None:
    assert parse.tasks(document("volume-status-rebalance")) == [("Rebalance", "1")]
    assert parse.tasks(document("volume-status-one-down")) == []
    assert parse.unhealed(document("volume-heal-info-summary-pending")) == 6
    assert parse.unhealed(document("volume-heal-info-summary-one-down")) is None

"""Documents of ``gluster --xml`` as values. Pure; what a document lacks is a ``ValueError`` that names it."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from csi.ports import GlusterVolume, Peer

_IN_CLUSTER = "3"  # GD_FRIEND_STATE_BEFRIENDED, "Peer in Cluster"


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A volume, and what stands in the way of its removal."""

    volume: GlusterVolume
    snapshots: int


def _text(element: Element, name: str) -> str:
    found = element.findtext(name)
    if found is None:
        raise ValueError(f"gluster's answer has no <{name}> in <{element.tag}>")
    return found


def _brick(word: str) -> tuple[str, str]:
    """Address and path. The address may be an IPv6 one; a path cannot begin before a slash."""
    address, colon, path = word.partition(":/")
    if not colon:
        raise ValueError(f"gluster's answer has a brick {word!r} without a path")
    return address, "/" + path


def volumes(document: Element) -> tuple[VolumeInfo, ...]:
    """Of ``volume info``, for one volume or all."""
    return tuple(_volume(volume) for volume in document.iterfind("volInfo/volumes/volume"))


def _volume(element: Element) -> VolumeInfo:
    bricks = []
    for brick in element.iterfind("bricks/brick"):
        bricks.append(_brick(_text(brick, "name")))
    options = [(_text(o, "name"), o.findtext("value") or "") for o in element.iterfind("options/option")]
    started = _text(element, "statusStr") == "Started"
    volume = GlusterVolume(_text(element, "name"), _text(element, "id"), started, tuple(bricks), tuple(options))
    return VolumeInfo(volume, int(element.findtext("snapshotCount") or 0))


def online(document: Element) -> dict[tuple[str, str], bool]:
    """Of ``volume status NAME``: whether each listed brick runs. Those of peers that are away are not listed."""
    found = {}
    for node in document.iterfind("volStatus/volumes/volume/node"):
        path = _text(node, "path")
        if path.startswith("/"):  # the self-heal daemon and its like have the name of a host there
            found[_text(node, "hostname"), path] = _text(node, "status") == "1"
    return found


def rebalance(document: Element) -> str:
    """Of ``volume rebalance NAME status``: "completed", "in progress", "failed", "stopped" ..."""
    return _text(document, "volRebalance/aggregate/statusStr")


def group(text: str) -> tuple[tuple[str, str], ...]:
    """The lines NAME=VALUE of a file of options."""
    pairs = (line.strip().partition("=") for line in text.splitlines() if not line.startswith("#"))
    return tuple((name.strip(), value.strip()) for name, _, value in pairs if name and value.strip())


def unhealed(document: Element) -> int | None:
    """Of ``volume heal NAME info summary``: entries on all bricks; None while a brick can't be asked."""
    bricks = list(document.iterfind("healInfo/bricks/brick"))
    counts = [brick.findtext("totalNumberOfEntries", "-") for brick in bricks]
    if not bricks or not all(count.isdecimal() for count in counts):
        return None
    return sum(map(int, counts))


def tasks(document: Element) -> list[tuple[str, str]]:
    """Of ``volume status NAME``: kind and status of each task, as ("Rebalance", "1")."""
    found = document.iterfind("volStatus/volumes/volume/tasks/task")
    return [(_text(task, "type"), _text(task, "status")) for task in found]


def peers(document: Element) -> tuple[Peer, ...]:
    """Of ``peer status``: the other peers."""
    return tuple(
        Peer(
            uuid=_text(peer, "uuid"),
            hostnames=tuple(name.text or "" for name in peer.iterfind("hostnames/hostname"))
            or (_text(peer, "hostname"),),
            connected=_text(peer, "connected") == "1",
            in_cluster=_text(peer, "state") == _IN_CLUSTER,
        )
        for peer in document.iterfind("peerStatus/peer")
    )

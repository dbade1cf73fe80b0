"""The documents that the simulated glusterd answers with, as ``gluster --xml`` of GlusterFS 10.3 writes them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

BARRIER_DONE = "volume barrier: command successful\n"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<cliOutput>\n'


@dataclass(frozen=True, slots=True)
class Counts:
    """Bricks of a set, as the tool is told: ``disperse`` is data and redundancy together, 0 if the volume is none."""

    replica: int = 1
    arbiter: int = 0
    disperse: int = 0
    redundancy: int = 0

    @property
    def set_size(self) -> int:
        return self.disperse or self.replica

    @property
    def type(self) -> tuple[int, str]:
        if self.disperse:
            return 4, "Disperse"
        return (2, "Replicate") if self.replica > 1 else (0, "Distribute")


@dataclass(eq=False)
class SimulatedVolume:
    """A volume as glusterd keeps it. ``pids`` are its brick processes by (machine, path)."""

    name: str
    uuid: str
    bricks: tuple[tuple[str, str], ...]
    counts: Counts
    state: str = "Created"  # or "Started", "Stopped"
    was_started: bool = False
    options: dict[str, str] = field(default_factory=dict)
    snapshots: int = 0
    unhealed: int = 0  # files, on each brick
    rebalance: str = ""  # "in progress" or "completed"
    pids: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.options = {"storage.fips-mode-rchecksum": "on", "transport.address-family": "inet", "nfs.disable": "on"}
        if self.counts.replica > 1:
            self.options = {"cluster.granular-entry-heal": "on", **self.options, "performance.client-io-threads": "off"}

    @property
    def started(self) -> bool:
        return self.state == "Started"

    @property
    def set_size(self) -> int:
        return self.counts.set_size


def document(code: int, errno: int, text: str = "", tail: str = "", output: str = "") -> str:
    said = f"  <opErrstr>{escape(text)}</opErrstr>\n" if text else "  <opErrstr/>\n"
    last = f"  <output>{escape(output)}</output>\n" if output else ""
    return f"{_HEAD}  <opRet>{code}</opRet>\n  <opErrno>{errno}</opErrno>\n{said}{tail}{last}</cliOutput>\n"


def changed(what: str, volume: SimulatedVolume) -> str:
    """``what`` is volCreate, volStart, volStop or volDelete."""
    return document(
        0,
        0,
        tail=f"  <{what}>\n    <volume>\n      <name>{escape(volume.name)}</name>\n      <id>{volume.uuid}</id>\n"
        f"    </volume>\n  </{what}>\n",
    )


def names(volumes: Iterable[str]) -> str:
    found = list(volumes)
    lines = "".join(f"    <volume>{escape(name)}</volume>\n" for name in found)
    return document(0, 0, tail=f"  <volList>\n    <count>{len(found)}</count>\n{lines}  </volList>\n")


def no_info(errno: int, text: str) -> str:
    tail = "  <volInfo>\n    <volumes>\n      <count>0</count>\n    </volumes>\n  </volInfo>\n"
    return document(-1, errno, text, tail=tail)


def info(volumes: Iterable[SimulatedVolume]) -> str:
    found = [_volume(volume) for volume in volumes]
    body = "".join(found)
    return document(
        0,
        0,
        tail=f"  <volInfo>\n    <volumes>\n{body}      <count>{len(found)}</count>\n    </volumes>\n  </volInfo>\n",
    )


def _volume(volume: SimulatedVolume) -> str:
    counts = volume.counts
    number, word = counts.type
    sets = len(volume.bricks) // volume.set_size
    if sets > 1 and number:
        number, word = number + 5, f"Distributed-{word}"
    facts = {
        "name": escape(volume.name),
        "id": volume.uuid,
        "status": ("Created", "Started", "Stopped").index(volume.state),
        "statusStr": volume.state,
        "snapshotCount": volume.snapshots,
        "brickCount": len(volume.bricks),
        "distCount": sets,
        "replicaCount": counts.replica,
        "arbiterCount": counts.arbiter,
        "disperseCount": counts.disperse,
        "redundancyCount": counts.redundancy,
        "type": number,
        "typeStr": word,
        "transport": 0,
    }
    lines = "".join(f"        <{name}>{value}</{name}>\n" for name, value in facts.items())
    bricks = "".join(_brick(volume, place) for place in range(len(volume.bricks)))
    options = "".join(
        f"          <option>\n            <name>{escape(key)}</name>\n            <value>{escape(value)}</value>\n"
        "          </option>\n"
        for key, value in volume.options.items()
    )
    return (
        f"      <volume>\n{lines}        <bricks>\n{bricks}        </bricks>\n"
        f"        <optCount>{len(volume.options)}</optCount>\n        <options>\n{options}        </options>\n"
        "      </volume>\n"
    )


def _brick(volume: SimulatedVolume, place: int) -> str:
    address, path = volume.bricks[place]
    brick = escape(f"{address}:{path}")
    arbiter = int(bool(volume.counts.arbiter) and place % volume.set_size == volume.set_size - 1)
    return f"          <brick>{brick}<name>{brick}</name><isArbiter>{arbiter}</isArbiter></brick>\n"


def healed(volume: SimulatedVolume) -> str:
    """``volume heal NAME info summary`` ."""
    bricks = "".join(
        f"      <brick>\n        <name>{escape(f'{address}:{path}')}</name>\n        <status>Connected</status>\n"
        f"        <totalNumberOfEntries>{volume.unhealed}</totalNumberOfEntries>\n      </brick>\n"
        for address, path in volume.bricks
    )
    info = f"  <healInfo>\n    <bricks>\n{bricks}    </bricks>\n  </healInfo>\n"
    return f"{_HEAD}{info}  <opRet>0</opRet>\n  <opErrno>0</opErrno>\n  <opErrstr/>\n</cliOutput>\n"


def urged(volume: SimulatedVolume) -> str:
    """``volume heal NAME``, which has no XML."""
    done = f"Launching heal operation to perform index self heal on volume {volume.name} has been successful"
    return f"{done} \nUse heal info commands to check status.\n"


def rebalanced(volume: SimulatedVolume, word: str) -> str:
    """``volume rebalance NAME start`` or ``status``; it takes no time."""
    if len(volume.bricks) == volume.set_size:
        text = f"Volume {volume.name} is not a distribute volume or contains only 1 brick.\nNot performing rebalance"
        return document(-1, 30800, text)
    if word == "start":
        volume.rebalance = volume.rebalance or "completed"
        return document(0, 0, tail="  <volRebalance>\n    <op>1</op>\n  </volRebalance>\n")
    if not volume.rebalance:
        return document(-1, 30800, f"Rebalance not started for volume {volume.name}.")
    state = f"<statusStr>{volume.rebalance}</statusStr>"
    return document(0, 0, tail=f"  <volRebalance><aggregate>{state}</aggregate></volRebalance>\n")


def status(volume: SimulatedVolume, nodes: Sequence[tuple[str, str, str, int]]) -> str:
    """``nodes`` are (host, path, peer, pid); a pid of -1 is of one that does not run."""
    body = "".join([_node(*node) for node in nodes])
    return document(
        0,
        0,
        tail="  <volStatus>\n    <volumes>\n      <volume>\n"
        f"        <volName>{escape(volume.name)}</volName>\n        <nodeCount>{len(nodes)}</nodeCount>\n{body}"
        "        <tasks/>\n      </volume>\n    </volumes>\n  </volStatus>\n",
    )


@functools.lru_cache(maxsize=1024)
def _node(host: str, path: str, peer: str, pid: int) -> str:
    return (
        f"        <node>\n          <hostname>{host}</hostname>\n          <path>{escape(path)}</path>\n"
        f"          <peerid>{peer}</peerid>\n          <status>{int(pid > 0)}</status>\n          <pid>{pid}</pid>\n"
        "        </node>\n"
    )


def peers(others: Iterable[tuple[str, Sequence[str], bool]]) -> str:
    """``others`` are (uuid, addresses, connected)."""
    body = ""
    for peer, addresses, connected in others:
        hostnames = "".join(f"        <hostname>{escape(address)}</hostname>\n" for address in addresses)
        body += (
            f"    <peer>\n      <uuid>{peer}</uuid>\n      <hostname>{escape(addresses[-1])}</hostname>\n"
            f"      <hostnames>\n{hostnames}      </hostnames>\n      <connected>{int(connected)}</connected>\n"
            "      <state>3</state>\n      <stateStr>Peer in Cluster</stateStr>\n    </peer>\n"
        )
    tail = f"  <peerStatus>\n{body}  </peerStatus>\n" if body else "  <peerStatus/>\n"
    return document(0, 0, tail=tail)

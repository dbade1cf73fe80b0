"""Zones as Kubernetes knows them: the topology segment of a node, and the zones that a volume is asked into.

A zone is the number that the topology gives to a host. Every node reaches every host; a zone says which is near. So all
zones of a request are allowed alike, and bricks are spread over them. With ``--strict-topology`` the external
provisioner asks for the zone of the pod's node alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from csi.api import csi_pb2 as pb
from csi.core.errors import InvalidRequest
from csi.core.model import VolumeSpec

KEY = "topology.gluster.org/zone"


def topology(zone: int) -> pb.Topology:
    return pb.Topology(segments={KEY: str(zone)})


def topologies(spec: VolumeSpec) -> list[pb.Topology]:
    """From where a volume can be reached; empty: from everywhere."""
    return [topology(zone) for zone in spec.zones]


def confined(spec: VolumeSpec, requisite: Iterable[pb.Topology]) -> VolumeSpec:
    """The class, with bricks in the requisite zones only. A topology without our key does not confine.

    Raises: InvalidRequest.
    """
    zones = set()
    for place in requisite:
        if (zone := place.segments.get(KEY)) is None:
            return spec
        if not (zone.isascii() and zone.isdecimal()):
            raise InvalidRequest(
                f"accessibility_requirements.requisite {KEY}", zone, "the number of a zone of the topology"
            )
        zones.add(int(zone))
    return replace(spec, zones=tuple(sorted(zones)))

"""Identity."""

from __future__ import annotations

import re

from csi.api import csi_pb2 as pb
from csi.driver.identity import IdentityService
from tests.unit.driver.conftest import Edge


async def test_who_it_is(edge: Edge) -> None:
    reply = await edge.identity.GetPluginInfo(pb.GetPluginInfoRequest())
    assert (reply.name, reply.vendor_version) == ("csi.gluster.org", "1.2.3")
    assert re.fullmatch(r"[a-zA-Z][A-Za-z0-9-._]{0,61}[a-zA-Z]", reply.name)


async def test_what_it_serves(edge: Edge) -> None:
    reply = await edge.identity.GetPluginCapabilities(pb.GetPluginCapabilitiesRequest())
    kinds = pb.PluginCapability.Service
    assert services(reply) == [kinds.CONTROLLER_SERVICE, kinds.GROUP_CONTROLLER_SERVICE]
    growing = [each.volume_expansion.type for each in reply.capabilities if each.HasField("volume_expansion")]
    assert growing == [pb.PluginCapability.VolumeExpansion.ONLINE]


def services(reply: pb.GetPluginCapabilitiesResponse) -> list[int]:
    return [each.service.type for each in reply.capabilities if each.HasField("service")]


async def test_zones_are_announced_where_they_are_wanted() -> None:
    service = IdentityService("csi.gluster.org", "1.2.3", zones=True)
    reply = await service.GetPluginCapabilities(pb.GetPluginCapabilitiesRequest(), object())
    kinds = pb.PluginCapability.Service
    assert services(reply) == [
        kinds.CONTROLLER_SERVICE,
        kinds.GROUP_CONTROLLER_SERVICE,
        kinds.VOLUME_ACCESSIBILITY_CONSTRAINTS,
    ]


async def test_whether_it_is_ready(edge: Edge) -> None:
    probe = await edge.identity.Probe(pb.ProbeRequest())
    assert probe.HasField("ready")  # left out would mean ready
    assert not probe.ready.value
    edge.identity_service.ready = True
    assert (await edge.identity.Probe(pb.ProbeRequest())).ready.value

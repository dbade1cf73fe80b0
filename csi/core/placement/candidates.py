"""Which devices may take bricks of a class at all, and why the others may not.

Nothing here depends on the size of a brick but ``exclusions``, which explains a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from csi.core.errors import Exclusion
from csi.core.inventory import HostSpace, Inventory
from csi.core.model import Availability, Backend, ClusterId, Device, DeviceId, Host, VolumeSpec, ZoneChecking

Domain = str | int  # two bricks of a set never share one: a host, or a zone where the class is strict


class Carries(Enum):
    """What the tag ``arbiter`` of a device, or else of its host, lets it carry in a volume with arbiters."""

    BOTH = "supported"
    DATA = "disabled"
    ARBITER = "required"


def _tag(host: Host, device: Device, key: str) -> str:
    value = device.tags.get(key)
    return host.tags.get(key, "") if value is None else value


def carries(host: Host, device: Device) -> Carries:
    match _tag(host, device, "arbiter"):
        case "required":
            return Carries.ARBITER
        case "disabled":
            return Carries.DATA
        case _:
            return Carries.BOTH


def domain(host: Host, spec: VolumeSpec) -> Domain:
    return host.zone if spec.zone_checking is ZoneChecking.STRICT else host.id


def _forbids(host: Host, device: Device, spec: VolumeSpec) -> tuple[str, str] | None:
    """The first rule that keeps the device out, and how."""
    if host.state is not Availability.ONLINE:
        return f"host {host.state}", f"host {host.manage} is {host.state}"
    if spec.zones and host.zone not in spec.zones:
        asked = ", ".join(map(str, spec.zones))
        return "zone", f"host {host.manage} is in zone {host.zone}, the volume shall be in {asked}"
    if device.state is not Availability.ONLINE:
        return str(device.state), f"the device is {device.state}"
    rule = spec.device_tag
    if rule is not None and not rule.admits({rule.key: _tag(host, device, rule.key)}):
        wanted = f"{rule.key}{'=' if rule.equal else '!='}{rule.value}"
        return "tag", f"the class wants {wanted}, the device has {rule.key}={_tag(host, device, rule.key)}"
    return None


def candidates(inventory: Inventory, cluster_id: ClusterId, spec: VolumeSpec) -> list[HostSpace]:
    """The hosts of the cluster with the devices that the class admits; hosts without any are left out."""
    spaces = inventory.spaces
    online = [
        space
        for host_id in inventory.hosts_of.get(cluster_id, ())
        if (space := spaces[host_id]).devices
        and space.host.state is Availability.ONLINE
        and (not spec.zones or space.host.zone in spec.zones)
    ]
    if spec.device_tag is None:
        return online
    narrowed = (_narrowed(space, spec, inventory.used) for space in online)
    return [space for space in narrowed if space.devices]


def _narrowed(space: HostSpace, spec: VolumeSpec, used: Mapping[DeviceId, int]) -> HostSpace:
    admitted = [device for device in space.devices if _forbids(space.host, device, spec) is None]
    return space if len(admitted) == len(space.devices) else HostSpace.of(space.host, admitted, used)


def exclusions(
    inventory: Inventory, cluster_id: ClusterId, spec: VolumeSpec, need: Mapping[Carries, Mapping[Backend, int]]
) -> Iterator[Exclusion]:
    """Every device that can't carry even the least brick of the layouts that were tried. ``need`` is its footprint."""
    for host_id in inventory.hosts_of.get(cluster_id, ()):
        host = inventory.hosts[host_id]
        for device_id in inventory.devices_of.get(host_id, ()):
            device = inventory.devices[device_id]
            name = f"{host.manage}:{device.path}"
            kind = carries(host, device) if spec.durability.arbiter else Carries.DATA
            least, free = need[kind][device.backend], inventory.free(device)
            if (forbidden := _forbids(host, device, spec)) is not None:
                # A device that is shut counts as offline; this says why.
                shut = device_id in inventory.shut and forbidden[0] == Availability.OFFLINE
                yield Exclusion(name, "thin pool", inventory.shut[device_id]) if shut else Exclusion(name, *forbidden)
            elif free < least:
                yield Exclusion(name, "no space", f"{max(0, free)} bytes free, the least brick takes {least}")

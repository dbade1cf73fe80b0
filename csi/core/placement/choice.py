"""``place``: the first cut of the volume that fits, or every reason why none does."""

from __future__ import annotations

from collections.abc import Sequence

from csi.core.errors import NoSpace, SizeOutOfRange
from csi.core.inventory import HostSpace, Inventory
from csi.core.model import BrickRole, ClusterId, VolumeSpec
from csi.core.placement import arbiter, uniform
from csi.core.placement.candidates import Carries, candidates, domain, exclusions
from csi.core.placement.capacity import largest
from csi.core.placement.layout import Layout, Place, PlacementRequest
from csi.core.placement.ledger import Spot
from csi.core.placement.splits import Split, most_sets, splits


def place(inventory: Inventory, cluster_id: ClusterId, request: PlacementRequest) -> Layout:
    """The layout with the fewest sets that obeys all hard rules.

    Raises: NoSpace if there is none now, SizeOutOfRange if the limits of a volume rule it out for ever.
    """
    spec, limits = request.spec, request.limits
    most = most_sets(spec, limits) * spec.durability.data * limits.max_brick
    if request.size > most:
        raise SizeOutOfRange(
            f"{request.size} bytes are more than a volume of {spec.durability} can have: {most} bytes, in"
            f" {limits.max_bricks} bricks of {limits.max_brick} bytes (placement.max_bricks, placement.max_brick)"
        )
    spaces = candidates(inventory, cluster_id, spec)
    tried = list(splits(request.size, spec, limits))
    for split in tried:
        if (spots := _choose(spaces, split)) is not None:
            return Layout(tuple(_places(spaces, split, one) for one in spots))
    raise _refusal(inventory, cluster_id, request, spaces, tried[-1])


def _choose(spaces: Sequence[HostSpace], split: Split) -> list[list[Spot]] | None:
    data = split.need(BrickRole.DATA)
    if split.spec.durability.arbiter:
        return arbiter.choose(spaces, split.spec, data, split.need(BrickRole.ARBITER), split.sets)
    return uniform.choose(spaces, split.spec, data, split.sets)


def _places(spaces: Sequence[HostSpace], split: Split, spots: Sequence[Spot]) -> tuple[Place, ...]:
    places = []
    for index, (host, device_index) in enumerate(spots):
        last = index == len(spots) - 1
        role = BrickRole.ARBITER if last and split.spec.durability.arbiter else BrickRole.DATA
        device = spaces[host].devices[device_index]
        need = split.need(role)[device.backend]
        places.append(Place(device, spaces[host].host, split.filesystem(role), need, role))
    return tuple(places)


def _refusal(
    inventory: Inventory,
    cluster_id: ClusterId,
    request: PlacementRequest,
    spaces: Sequence[HostSpace],
    smallest: Split,
) -> NoSpace:
    data, slim = smallest.need(BrickRole.DATA), smallest.need(BrickRole.ARBITER)
    need = {Carries.DATA: data, Carries.ARBITER: slim, Carries.BOTH: slim}
    return NoSpace(
        request.size,
        largest(inventory, cluster_id, request),
        _reason(inventory, cluster_id, request.spec, spaces, smallest),
        tuple(exclusions(inventory, cluster_id, request.spec, need)),
    )


def _reason(
    inventory: Inventory, cluster_id: ClusterId, spec: VolumeSpec, spaces: Sequence[HostSpace], smallest: Split
) -> str:
    if not inventory.hosts_of.get(cluster_id):
        return f"cluster {cluster_id} has no hosts"
    width = spec.durability.set_size
    found = len({domain(space.host, spec) for space in spaces})
    kind = "zones" if spec.zone_checking.value == "strict" else "hosts"
    if found < width:
        return f"{spec.durability} needs {width} {kind} with usable devices, there are {found}"
    parts = "1 set" if smallest.sets == 1 else f"1 to {smallest.sets} sets"
    return (
        f"{spec.durability} in {parts} on distinct {kind} does not fit, not even with bricks of"
        f" {smallest.filesystem(BrickRole.DATA)} bytes"
    )

"""How much still fits: in one volume, and in all."""

from __future__ import annotations

from collections.abc import Sequence

from csi.core import sizes
from csi.core.inventory import HostSpace, Inventory
from csi.core.model import BrickRole, ClusterId, VolumeSpec
from csi.core.placement import arbiter, fluid, uniform
from csi.core.placement.candidates import Carries, Domain, candidates, carries, domain
from csi.core.placement.layout import PlacementRequest
from csi.core.placement.splits import Split, least_share, most_sets


def fits(spaces: Sequence[HostSpace], split: Split) -> bool:
    data = split.need(BrickRole.DATA)
    if split.spec.durability.arbiter:
        return arbiter.fits(spaces, split.spec, data, split.need(BrickRole.ARBITER), split.sets)
    return uniform.fits(spaces, split.spec, data, split.sets)


def largest(inventory: Inventory, cluster_id: ClusterId, request: PlacementRequest) -> int:
    """The size of the largest volume of the class that ``place`` would accept now, in whole grains; 0 for none.

    ``request.size`` is not looked at. For a number of sets, smaller bricks fit wherever larger ones do, so
    bisection finds the largest. Many sets come first: they usually hold the most, and a look each rules out the rest.
    """
    spec, limits = request.spec, request.limits
    spaces = candidates(inventory, cluster_id, spec)
    roomiest = max((free for space in spaces for _, free in space.largest), default=0)
    best = 0
    for sets in range(most_sets(spec, limits), 0, -1):
        bricks = sets * spec.durability.data
        share = max(least_share(sets, limits), best // bricks + 1)
        low = sizes.filesystem_size(share) // sizes.GRAIN
        high = min(sizes.filesystem_size(limits.max_brick), roomiest) // sizes.GRAIN
        if share > limits.max_brick or low > high or not fits(spaces, Split(sets, share, spec)):
            continue
        while low < high:
            middle = (low + high + 1) // 2
            if fits(spaces, Split(sets, _usable(middle, limits.max_brick), spec)):
                low = middle
            else:
                high = middle - 1
        best = max(share, _usable(low, limits.max_brick)) * bricks
    return sizes.round_down(best)


def _usable(grains: int, max_brick: int) -> int:
    return min(sizes.usable_size(grains * sizes.GRAIN), max_brick)


def available(inventory: Inventory, cluster_id: ClusterId, request: PlacementRequest) -> int:
    """What volumes of the class can take in all, as if bricks could be cut at will; filling comes close to it.

    ``request.size`` is not looked at.
    """
    spec = request.spec
    hosts: dict[Domain, fluid.Room] = {}
    for space in candidates(inventory, cluster_id, spec):
        place = domain(space.host, spec)
        hosts[place] = hosts.get(place, fluid.Room()) + _room(space, spec)
    share = min(1.0, sizes.ARBITER_PER_FILE / spec.average_file_size) if spec.durability.arbiter else None
    width = fluid.widest(list(hosts.values()), spec.durability.set_size, share)
    return sizes.round_down(width * spec.durability.data)


def _room(space: HostSpace, spec: VolumeSpec) -> fluid.Room:
    room = fluid.Room()
    for device, free in zip(space.devices, space.free, strict=True):
        usable = sizes.usable_size(sizes.largest_filesystem(device.backend, free, spec.snap_factor))
        kind = carries(space.host, device) if spec.durability.arbiter else Carries.BOTH
        if usable >= sizes.SMALLEST_VOLUME:
            room += fluid.Room(**{kind.name.lower(): usable})
    return room

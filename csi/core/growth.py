"""How a volume gets larger where it is: which of its bricks grow, and to what. Pure.

All sets are brought to one level, from below: a set that is that large already stays as it is. Every brick that grows
gets one grain more than a new one of its level: XFS gives up a last allocation group that would be too small, up to
256 KiB, and where its groups end depends on the size that it was made with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from csi.core import naming, sizes
from csi.core.errors import Exclusion, NoSpace, SizeOutOfRange
from csi.core.inventory import Inventory
from csi.core.model import Availability, Brick, BrickRole, Device, DeviceId, Volume, VolumeSpec
from csi.core.placement import Layout, Limits
from csi.core.placement.candidates import Carries, candidates, carries, domain


def in_place(inventory: Inventory, volume: Volume, size: int, limits: Limits) -> Volume:
    """The volume as it is with ``size`` bytes, on the devices that it is on.

    Raises: NoSpace with the largest size that it could have, SizeOutOfRange if the limits of a volume rule it out.
    """
    spec = volume.spec
    most = volume.set_count * spec.durability.data * limits.max_brick
    if size > most:
        raise SizeOutOfRange(
            f"{size} bytes are more than volume {volume.name!r} can have in its {volume.set_count} sets of bricks: "
            f"{most} bytes, with {limits.max_brick} in one brick (placement.max_brick)"
        )
    wanted = enlarged(inventory, volume, size)
    if lacking := list(_lacking(inventory, volume, wanted)):
        raise NoSpace(size, _largest(inventory, volume, size), "its bricks cannot grow where they are", lacking)
    return wanted


def enlarged(inventory: Inventory, volume: Volume, size: int) -> Volume:
    """The same, with no look at what is free."""
    level = _level(volume, size)
    bricks = []
    for one in _sets(volume):
        grows = _share(one) < level
        bricks += [_grown(inventory, volume, brick, level) if grows else brick for brick in one]
    return replace(volume, size=size, bricks=tuple(bricks))


def resized(inventory: Inventory, volume: Volume, brick: Brick, size: int) -> Brick:
    """The brick with a file system of ``size`` bytes."""
    backend = inventory.devices[brick.device_id].backend
    # On top of what it has: a thin pool that was extended takes more than its brick needs, and does so afterwards too.
    before, after = (sizes.footprint(backend, one, volume.spec.snap_factor) for one in (brick.size, size))
    return replace(brick, size=size, footprint=brick.footprint + after - before)


def extra(before: Volume | None, after: Volume) -> dict[DeviceId, int]:
    """Bytes that each device has to give on top of what it gave to the volume before."""
    held = {brick.id: brick.footprint for brick in before.bricks} if before is not None else {}
    needs: Counter[DeviceId] = Counter()
    for brick in after.bricks:
        needs[brick.device_id] += brick.footprint - held.get(brick.id, 0)
    return {device: need for device, need in needs.items() if need}


def _sets(volume: Volume) -> Iterator[Sequence[Brick]]:
    width = volume.spec.durability.set_size
    for first in range(0, len(volume.bricks), width):
        yield volume.bricks[first : first + width]


def _share(one: Sequence[Brick]) -> int:
    """What a data brick of the set is good for."""
    return min(sizes.usable_size(brick.size) for brick in one if brick.role is BrickRole.DATA)


def _level(volume: Volume, size: int) -> int:
    """The least usable size to which every smaller set has to come, for all together to have ``size`` bytes."""
    need = -(-size // volume.spec.durability.data)
    shares = sorted(map(_share, _sets(volume)))
    while True:
        level = -(-need // len(shares))
        if shares[-1] <= level:
            return level
        need -= shares.pop()
        if not shares or need <= 0:
            return 0


def _grown(inventory: Inventory, volume: Volume, brick: Brick, level: int) -> Brick:
    usable = level
    if brick.role is BrickRole.ARBITER:
        # For all that the data bricks really hold.
        held = sizes.usable_size(sizes.filesystem_size(level) + sizes.GRAIN)
        usable = sizes.arbiter_size(held, volume.spec.average_file_size)
    size = sizes.filesystem_size(usable) + sizes.GRAIN
    return resized(inventory, volume, brick, size) if size > brick.size else brick


def _room(inventory: Inventory, device: Device) -> int:
    online = device.state is Availability.ONLINE and inventory.hosts[device.host_id].state is Availability.ONLINE
    return max(0, inventory.free(device)) if online else 0


def _lacking(inventory: Inventory, before: Volume, after: Volume) -> Iterator[Exclusion]:
    """The devices that can't give what their bricks need."""
    for device_id, need in sorted(extra(before, after).items()):
        device = inventory.devices[device_id]
        host = inventory.hosts[device.host_id]
        if (room := _room(inventory, device)) < need:
            states = {"device": device.state, "host": host.state}
            off = [f"the {what} is {state}" for what, state in states.items() if state is not Availability.ONLINE]
            yield Exclusion(
                f"{host.manage}:{device.path}", "no space", off[0] if off else f"{room} bytes free, {need} needed"
            )


def _largest(inventory: Inventory, volume: Volume, too_much: int) -> int:
    """The largest size in whole grains that would fit; the present one if none does."""
    low, high = volume.size // sizes.GRAIN, -(-too_much // sizes.GRAIN)
    while high - low > 1:
        middle = (low + high) // 2
        if any(_lacking(inventory, volume, enlarged(inventory, volume, middle * sizes.GRAIN))):
            high = middle
        else:
            low = middle
    return max(volume.size, low * sizes.GRAIN)


def with_copy(inventory: Inventory, volume: Volume, spec: VolumeSpec) -> Volume:
    """The volume with one more brick in each set, as ``spec`` has it. Raises: NoSpace."""
    role = BrickRole.ARBITER if spec.durability.arbiter else BrickRole.DATA
    bricks: list[Brick] = []
    for one in _sets(volume):
        size = max(brick.size for brick in one)
        if role is BrickRole.ARBITER:
            size = sizes.filesystem_size(sizes.arbiter_size(sizes.usable_size(size), spec.average_file_size))
        bricks += [*one, _beside(inventory, replace(volume, spec=spec), one, size)]
    return replace(volume, spec=spec, bricks=tuple(bricks))


def with_sets(volume: Volume, size: int, layout: Layout) -> Volume:
    """The volume with the sets of the layout after its own."""
    bricks = list(volume.bricks)
    for number, places in enumerate(layout.sets, volume.set_count):
        for index, place in enumerate(places):
            brick_id = naming.brick_id(volume.id, number, index)
            path, device = naming.brick_directory(place.device.id, brick_id, place.device.backend), place.device
            bricks.append(
                Brick(brick_id, number, index, place.host.id, device.id, place.size, place.footprint, path, place.role)
            )
    return replace(volume, size=size, bricks=tuple(bricks))


def _beside(inventory: Inventory, volume: Volume, one: Sequence[Brick], size: int) -> Brick:
    """A brick on another host than those, in another zone if it can be, where the most is left. Raises: NoSpace."""
    spec = volume.spec
    role = BrickRole.ARBITER if spec.durability.arbiter else BrickRole.DATA
    number, taken = one[0].set, [brick.host_id for brick in one]
    never = Carries.DATA if role is BrickRole.ARBITER else Carries.ARBITER
    domains = {domain(inventory.hosts[host], spec) for host in taken}
    zones = {inventory.hosts[host].zone for host in taken}
    spots = []
    for space in candidates(inventory, volume.cluster_id, spec):
        for device, free in zip(space.devices, space.free, strict=True):
            need = sizes.footprint(device.backend, size, spec.snap_factor)
            fits = free >= need and (not spec.durability.arbiter or carries(space.host, device) is not never)
            if fits and domain(space.host, spec) not in domains:
                spots.append((space.host.zone in zones, -(free - need) / device.total, device.id, need))
    if not spots:
        reason = f"there is no other host with room for a brick of {size} bytes beside those of set {number}"
        raise NoSpace(volume.size, 0, reason, ())
    *_, device_id, need = min(spots)
    index = spec.durability.set_size - 1
    brick_id = naming.brick_id(volume.id, number, index)
    device = inventory.devices[device_id]
    host_id, path = device.host_id, naming.brick_directory(device_id, brick_id, device.backend)
    return Brick(brick_id, number, index, host_id, device_id, size, need, path, role)

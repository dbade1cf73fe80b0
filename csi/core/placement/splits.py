"""How a volume may be cut into sets, and what each cut needs of the devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from csi.core import sizes
from csi.core.model import Backend, BrickRole, VolumeSpec
from csi.core.placement.layout import Limits


@dataclass(frozen=True, slots=True)
class Split:
    """``sets`` sets whose data bricks have ``usable`` bytes each."""

    sets: int
    usable: int
    spec: VolumeSpec

    def filesystem(self, role: BrickRole) -> int:
        size = sizes.filesystem_size(self.usable)
        if role is BrickRole.DATA:
            return size
        # For all that the data bricks really hold, so that both sizes follow from the same number of grains.
        return sizes.filesystem_size(sizes.arbiter_size(sizes.usable_size(size), self.spec.average_file_size))

    def need(self, role: BrickRole) -> Mapping[Backend, int]:
        """What a brick takes from a device of each kind."""
        size = self.filesystem(role)
        return {backend: sizes.footprint(backend, size, self.spec.snap_factor) for backend in Backend}


def most_sets(spec: VolumeSpec, limits: Limits) -> int:
    return limits.max_bricks // spec.durability.set_size


def least_share(sets: int, limits: Limits) -> int:
    """The least usable size of a data brick. A volume that is small as a whole may have small bricks."""
    return sizes.SMALLEST_VOLUME if sets == 1 else max(limits.min_brick, sizes.SMALLEST_VOLUME)


def splits(size: int, spec: VolumeSpec, limits: Limits) -> Iterator[Split]:
    """Every cut that obeys the limits, the fewest sets first, ending where more sets make no smaller bricks."""
    before = None
    for sets in range(1, most_sets(spec, limits) + 1):
        share = max(-(-size // (sets * spec.durability.data)), least_share(sets, limits))
        if before is not None and share >= before:
            return
        before = share
        if share <= limits.max_brick:
            yield Split(sets, share, spec)

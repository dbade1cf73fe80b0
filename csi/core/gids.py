"""Which GID a new volume gets."""

from __future__ import annotations

from csi.core.errors import GidsExhausted
from csi.core.inventory import Inventory
from csi.core.model import Gid, VolumeSpec


def next_gid(inventory: Inventory, spec: VolumeSpec) -> Gid:
    """The lowest GID of the class's range that no volume, open creation or resting GID holds.

    Raises: GidsExhausted.
    """
    gid = inventory.gids.lowest_free(spec.gid_min)
    if gid > spec.gid_max:
        resting = sum(1 for rest in inventory.resting.values() if spec.gid_min <= rest.gid <= spec.gid_max)
        raise GidsExhausted(
            f"every GID from {spec.gid_min} to {spec.gid_max} is taken ({resting} of them rest after a deletion): "
            "widen gidMin..gidMax in the StorageClass, delete volumes, or wait until resting GIDs are free again"
        )
    return Gid(gid)

"""Thin pools: what is known of them beyond the records."""

from __future__ import annotations

from dataclasses import dataclass

from csi.core.model import BrickId, DeviceId


@dataclass(frozen=True, slots=True)
class PoolFullness:
    """How much of a brick's thin pool is taken, in percent."""

    device: DeviceId
    brick: BrickId
    data: float
    metadata: float

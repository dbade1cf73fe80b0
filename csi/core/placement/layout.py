"""The words of placement: what is asked for and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

from csi.core.model import BrickRole, Device, Host, VolumeSpec
from csi.core.sizes import GIB, TIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one volume. ``min_brick`` and ``max_brick`` are a brick's share of the volume, in bytes.

    ``min_brick`` only stops the splitting into more sets: a small volume has smaller bricks. A file can't be
    larger than a brick.
    """

    min_brick: int = GIB
    max_brick: int = 4 * TIB
    max_bricks: int = 256


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    size: int
    spec: VolumeSpec
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Place:
    """Where one brick goes. ``size`` is that of its file system, ``footprint`` what the device loses."""

    device: Device
    host: Host
    size: int
    footprint: int
    role: BrickRole


@dataclass(frozen=True, slots=True)
class Layout:
    """Brick sets in gluster's order; the arbiter is the last of its set."""

    sets: tuple[tuple[Place, ...], ...]

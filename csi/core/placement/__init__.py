"""Where the bricks of a volume go: pure and deterministic. The rules are told in ``docs/decisions/placement.md``."""

from csi.core.placement.capacity import available, largest
from csi.core.placement.choice import place
from csi.core.placement.layout import Layout, Limits, Place, PlacementRequest

__all__ = ["Layout", "Limits", "Place", "PlacementRequest", "available", "largest", "place"]

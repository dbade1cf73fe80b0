"""What is left of the candidates while one layout is being made, and the soft goal of even filling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from csi.core.inventory import HostSpace
from csi.core.model import Backend

Footprints = Mapping[Backend, int]
_NEARLY_FULL = 0.8
Spot = tuple[int, int]  # which host space, which of its devices


class Ledger:
    """Mutable, and lives for one attempt only. Hosts and devices that are not touched cost nothing."""

    def __init__(self, spaces: Sequence[HostSpace]) -> None:
        self.spaces = spaces
        self._taken: dict[int, int] = {}  # by host
        self._free: dict[int, list[int]] = {}  # by host, by device

    def free(self, host: int) -> Sequence[int]:
        return self._free.get(host, self.spaces[host].free)

    def by_fill(self, hosts: Sequence[int], need: Footprints) -> list[int]:
        """Those that would be the least full with one more brick first."""
        spaces, taken = self.spaces, self._taken.get
        keys = [
            ((space.used + taken(host, 0) + need[space.largest[0][0]]) / space.total, space.host.id, host)
            for host in hosts
            for space in (spaces[host],)
        ]
        keys.sort()
        return [host for _, _, host in keys]

    def take(self, host: int, need: Footprints) -> Spot:
        """Put a brick on a device of the host; there must be one with room.

        It is the least full, for even load, and on a host that is nearly full the one that it fits tightest,
        so that what is left lies in large pieces.
        """
        space, free = self.spaces[host], self.free(host)
        packing = space.used + self._taken.get(host, 0) >= _NEARLY_FULL * space.total
        _, _, index = min(
            (left if packing else -left / device.total, device.id, index)
            for index, device in enumerate(space.devices)
            if (left := free[index] - need[device.backend]) >= 0
        )
        return self.put(host, index, need)

    def put(self, host: int, index: int, need: Footprints) -> Spot:
        """Put a brick on this device."""
        footprint = need[self.spaces[host].devices[index].backend]
        if host not in self._free:
            self._free[host] = list(self.spaces[host].free)
        self._free[host][index] -= footprint
        self._taken[host] = self._taken.get(host, 0) + footprint
        return host, index

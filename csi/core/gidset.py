"""An immutable set of GIDs that finds its lowest gap quickly.

Blocks of 4,096 bits in a persistent map: a change copies one block, however many GIDs there are and however
their use is scattered, and the search looks at whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from immutables import Map

_BITS = 4096
_FULL = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True)
class GidSet:
    blocks: Map[int, int] = field(default_factory=Map)  # block number -> bits; empty blocks are left out

    def __contains__(self, gid: int) -> bool:
        number, bit = divmod(gid, _BITS)
        return bool(self.blocks.get(number, 0) >> bit & 1)

    def __iter__(self) -> Iterator[int]:
        """In ascending order."""
        for number in sorted(self.blocks):
            bits = self.blocks[number]
            for bit in range(bits.bit_length()):
                if bits >> bit & 1:
                    yield number * _BITS + bit

    def lowest_free(self, start: int) -> int:
        """The least number from ``start`` upwards that is not in the set."""
        number, bit = divmod(start, _BITS)
        bits = self.blocks.get(number, 0) | ((1 << bit) - 1)
        while bits == _FULL:
            number += 1
            bits = self.blocks.get(number, 0)
        gaps = ~bits & _FULL
        return number * _BITS + (gaps & -gaps).bit_length() - 1

    def add(self, gid: int) -> GidSet:
        number, bit = divmod(gid, _BITS)
        return GidSet(self.blocks.set(number, self.blocks.get(number, 0) | 1 << bit))

    def remove(self, gid: int) -> GidSet:
        number, bit = divmod(gid, _BITS)
        bits = self.blocks.get(number, 0) & ~(1 << bit)
        if bits:
            return GidSet(self.blocks.set(number, bits))
        return GidSet(self.blocks.delete(number)) if number in self.blocks else self

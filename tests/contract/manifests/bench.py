"""A controller that follows what a person's hand applies and deletes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from csi.core import naming
from csi.hosts.simulated.world import World
from csi.kubernetes.api import Api
from csi.store.kube.kinds import KINDS
from tests.keeping import Hand, Life, condition, pool, until

Document = dict[str, Any]
H1 = naming.host_id("h1")
D1 = naming.device_id(H1, "/srv/d0")


@dataclass(slots=True)
class Bench:
    hand: Hand
    world: World
    connect: Callable[[], Api]
    speed: float
    life: Life = field(init=False)

    async def begin(self) -> None:
        self.life = await Life(self.world, self.connect, self.speed).begin()

    async def accepted(self, kind: str, name: str) -> Document:
        async def look() -> Document | None:
            found = await self.hand.look(kind, name)
            return found if condition(found, "Accepted").get("status") == "True" else None

        return await until(look)  # type: ignore[no-any-return]

    async def refused(self, kind: str, name: str, reason: str) -> str:
        """The message."""

        async def look() -> str | None:
            found = condition(await self.hand.look(kind, name), "Accepted")
            return found["message"] if found.get("reason") == reason and found["status"] == "False" else None

        return await until(look)  # type: ignore[no-any-return]

    async def gone(self, kind: str, name: str) -> None:
        """From the API server, and from the records, which follow it."""
        (record,) = (one.record for one in KINDS if one.name == kind)

        async def look() -> bool:
            return await self.hand.look(kind, name) is None and self.life.store.record_in(record, name) is None

        await until(look)

    async def event(self, name: str, reason: str) -> Document:
        async def look() -> Document | None:
            found = await self.hand.events(name)
            return next((event for event in found if event["reason"] == reason), None)

        return await until(look)  # type: ignore[no-any-return]

    async def load(self, *numbers: int) -> None:
        assert await self.hand.apply(*pool(numbers)) == ""
        for number in numbers:
            await self.accepted("GlusterDevice", f"disk-{number}")

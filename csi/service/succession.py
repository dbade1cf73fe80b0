"""What a controller of another term may have left under way.

Hosts end its sessions when the first one of ours comes (``hosts/mandate.py``), so every host is visited at once. What
it had asked of glusterd before is not ended by that: glusterd may carry it out later. So an operation that another
controller began, and that goes back or deletes, is not closed before ``settle`` seconds of our term are over, and is
carried out once more then. Until then its record keeps space, GID and name, so nothing of ours can be mistaken for
what appears. There is nothing else to remember: if we end before that, the record is there for the next controller.

A creation that goes forward needs none of it: what it was asked for late is what we ask for too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from csi.core.errors import Busy
from csi.core.inventory import Inventory
from csi.core.model import HostId, Operation, OperationId, OperationKind
from csi.ports import Clock
from csi.service.presence import Presence
from csi.service.steps import Steps

_log = structlog.get_logger(__name__)

_REVISIT = 5.0  # seconds until a host that did not answer is visited again


async def nobody(message: str) -> None:
    """Nobody is told."""


@dataclass(slots=True)
class Succession:
    """``term``: ours. ``late``: how often something was found that an earlier controller's command made afterwards."""

    steps: Steps
    presence: Presence
    clock: Clock
    settle: float
    term: Callable[[], int] = lambda: 0
    tell: Callable[[str], Awaitable[None]] = nobody
    late: int = 0
    _begun: float = field(default=float("-inf"), init=False)
    _undone: set[OperationId] = field(default_factory=set, init=False)  # once, by this process

    def begin(self) -> None:
        """Our term begins now."""
        self._begun = self.clock.monotonic()

    async def visit(self, inventory: Callable[[], Inventory]) -> None:
        """A session on every host, so that those of earlier controllers end there. Returns when all had one."""
        visited: set[HostId] = set()
        while self.term():
            missing = [host for host in inventory().hosts.values() if host.id not in visited]
            if not missing:
                _log.info("every host obeys this controller", term=self.term(), hosts=len(visited))
                return
            silent = await self.presence.silent(missing)
            visited |= {host.id for host in missing} - silent
            if silent:
                await self.clock.sleep(_REVISIT)

    def remaining(self, operation: Operation) -> float:
        """Seconds until this operation, which is done, may be closed."""
        if operation.term == self.term():
            return 0.0
        return max(0.0, self._begun + self.settle - self.clock.monotonic())

    def rests(self, operation: Operation) -> bool:
        """It is done, and is to be done once more later."""
        return operation.id in self._undone and self.remaining(operation) > 0

    async def look(self, operation: Operation) -> None:
        """Before it is carried out again: what has appeared since the last time is told. Raises: as the hosts do."""
        if operation.id not in self._undone:
            return
        if found := await self.steps.remains(operation.volume):
            self.late += 1
            await self._report(operation, found)

    async def _report(self, operation: Operation, found: Sequence[str]) -> None:
        message = (
            f"volume {operation.volume.name!r}, {operation.kind} of term {operation.term}: a command of "
            f"that controller took effect late: {', '.join(found)}; it is undone"
        )
        _log.warning("late effect", volume=operation.volume.name, term=operation.term, found=list(found))
        await self.tell(message)

    def close(self, operation: Operation) -> None:
        """May the record go? Raises: Busy if the operation has to be carried out once more."""
        remaining = self.remaining(operation)
        if not remaining:
            self._undone.discard(operation.id)
            return
        self._undone.add(operation.id)
        why = f" ({operation.error})" if operation.error else ""
        what = "is deleted" if operation.kind is OperationKind.DELETE else f"was not made{why}"
        raise Busy(
            f"volume {operation.volume.name!r} {what}; commands of an earlier controller may still take effect, so it "
            f"is looked at once more in {remaining:.0f} s: ask again then"
        )

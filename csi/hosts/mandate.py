"""In whose name a session acts on a host: the instance of this driver, and the term of the controller.

A host obeys the highest term that a session of the instance ever came with (``csi_enter`` in ``session.sh``). It ends
all sessions of lower terms before it lets one of a higher term in, and lets none of a lower term in any more. Term 0 is
that of a controller beside which no other can be: a host that never met another term is asked for nothing.

A Lease that was deleted counts anew, so two controllers can come with one term. The host obeys the one that came
first, and the other one gets a higher term (``Lease.outdo``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TERMS = "/var/lib/gluster-csi/terms"
"""Kept over reboots: a connection that was slow to come up may still bring an old term."""

SESSIONS = "/run/gluster-csi.sessions"
"""Not kept: a session does not outlive its host."""


@dataclass(frozen=True, slots=True)
class Mandate:
    """``terms`` and ``sessions`` are directories of the host, in which each instance has its own place."""

    instance: str
    term: int = 0
    holder: str = "-"  # the controller that has the term, as one word like no other's
    terms: str = TERMS
    sessions: str = SESSIONS

    @property
    def words(self) -> tuple[str, ...]:
        """What ``csi_hello`` is told."""
        return (f"{self.terms}/{self.instance}", f"{self.sessions}/{self.instance}", str(self.term), self.holder)

    def refusal(self, obeyed: int) -> str:
        """Why a host that obeys another term lets nobody in, and what to do."""
        return (
            f"it obeys another controller of instance {self.instance!r}, of term {obeyed}, and this one has term "
            f"{self.term}. With a Lease the right one goes on by itself; without, see that no other "
            f"controller runs and set hosts.term to {obeyed + 1}"
        )


Mandated = Callable[[], Mandate | None]
"""Asked anew for each session. None: hosts are not told, as in tests that are alone with them."""


def nobody() -> None:
    """A runner that tells hosts nothing."""

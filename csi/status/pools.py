"""What is told of the thin pools of a device: a condition, and an event when one reaches the limit. No I/O."""

from __future__ import annotations

from csi.service.fullness import Health
from csi.status.conditions import Condition

TYPE = "ThinPoolsHealthy"


def condition(health: Health) -> Condition:
    """``reason``: ``Refusing`` where the device takes nothing new for it."""
    if not health.full:
        return Condition(
            TYPE, True, "BelowLimit", f"every thin pool is below {health.limit.percent:g} %{_more(health)}"
        )
    told = "; ".join(sorted(health.limit.explain(pool) for pool in health.full)) + _more(health)
    if any(health.limit.closes(pool) for pool in health.full):
        return Condition(TYPE, False, "Refusing", f"nothing new is placed on it: {told}")
    return Condition(TYPE, False, "NearlyFull", told)


def _more(health: Health) -> str:
    if not health.unrecorded:
        return ""
    return (
        f"; {health.unrecorded} bytes of its volume group are taken beyond what is recorded, and no new brick is put "
        "there: pools that outlive their volume or snapshot since others are in them, or volumes of others"
    )


def events(health: Health) -> list[tuple[str, str]]:
    """Reason and message of each."""
    return [("ThinPoolNearlyFull", health.limit.explain(pool)) for pool in health.crossed]

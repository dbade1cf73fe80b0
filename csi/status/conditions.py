"""A ``status`` as a document: conditions with the time of their last change. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

_LONGEST = 8192  # characters of a message; the definition allows four times as many


@dataclass(frozen=True, slots=True)
class Condition:
    """``reason`` in one word for programs, ``message`` in a sentence for people."""

    type: str
    holds: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one resource. ``ended``: types of conditions that are told of no longer."""

    phase: str
    message: str
    conditions: tuple[Condition, ...] = ()
    ended: tuple[str, ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)


def status(told: Told, present: Document, generation: int, now: str) -> Document:
    """The document on top of the ``present`` one; equal to it if there is nothing new.

    Conditions that ``told`` is silent about stay: what nobody has looked at since the start is not forgotten.
    """
    known: Sequence[Document] = present.get("conditions", [])
    by_type = {condition["type"]: condition for condition in known if condition["type"] not in told.ended}
    for condition in told.conditions:
        by_type[condition.type] = _condition(condition, by_type.get(condition.type), generation, now)
    return {
        **present,
        "phase": told.phase,
        "message": told.message[:_LONGEST],
        **told.figures,
        "conditions": list(by_type.values()),
    }


def _condition(condition: Condition, before: Document | None, generation: int, now: str) -> Document:
    word = "True" if condition.holds else "False"
    since = before["lastTransitionTime"] if before is not None and before["status"] == word else now
    return {
        "type": condition.type,
        "status": word,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": condition.reason,
        "message": condition.message[:_LONGEST],
    }

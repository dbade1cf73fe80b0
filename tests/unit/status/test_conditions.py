"""Conditions, and when they changed."""

from __future__ import annotations

from csi.status.conditions import Condition, Told, status

READY = Condition("Ready", True, "Made", "it is made")
GONE = Condition("Ready", False, "Deleting", "it goes")


def test_the_same_again_is_the_same_document_whatever_the_time() -> None:
    first = status(Told("Ready", "", (READY,), figures={"freeBytes": 3}), {}, 1, "then")
    assert first["conditions"][0]["lastTransitionTime"] == "then"
    assert status(Told("Ready", "", (READY,), figures={"freeBytes": 3}), first, 1, "later") == first


def test_the_time_is_that_of_the_last_change_of_the_word() -> None:
    first = status(Told("Ready", "", (READY,)), {}, 1, "then")
    reworded = status(Told("Ready", "", (Condition("Ready", True, "Other", "in other words"),)), first, 2, "later")
    assert [(c["lastTransitionTime"], c["observedGeneration"]) for c in reworded["conditions"]] == [("then", 2)]
    changed = status(Told("Deleting", "it goes", (GONE,)), reworded, 3, "later")
    assert [(c["status"], c["lastTransitionTime"]) for c in changed["conditions"]] == [("False", "later")]


def test_what_is_not_told_of_stays_and_what_has_ended_goes() -> None:
    waiting = Condition("Deleting", True, "Waiting", "for a host")
    first = status(Told("Deleting", "", (GONE, waiting)), {}, 1, "then")
    silent = status(Told("Deleting", "", (GONE,)), first, 1, "later")
    assert [c["type"] for c in silent["conditions"]] == ["Ready", "Deleting"]
    ended = status(Told("Ready", "", (READY,), ended=("Deleting",)), first, 1, "later")
    assert [c["type"] for c in ended["conditions"]] == ["Ready"]

"""What the run of the external storage suite calls wrong, and what it counts."""

from __future__ import annotations

from typing import Any

from tests.external.specs import Reasons, Spec, chosen, figures, judge, matches, read, stale

BEGINNING = "External Storage [Driver: csi.example]"
REASONS = Reasons({"[Disruptive]": "the node has no sshd"}, {"(block volmode)*volumes": "no block devices"})
FILES, BLOCK, RUDE = "(default fs) volumes should store", "(block volmode) volumes should store", "[Disruptive] kubelet"


def entry(leaf: str, state: str, *containers: str, why: str = "") -> dict[str, Any]:
    failure = {"Failure": {"Message": why}} if why else {}
    return {
        "ContainerHierarchyTexts": list(containers),
        "LeafNodeText": leaf,
        "LeafNodeType": "It",
        "State": state,
        "RunTime": 1_500_000_000,
        **failure,
    }


def test_only_specs_of_external_storage_are_read() -> None:
    before = {**entry("", "passed"), "ContainerHierarchyTexts": None, "LeafNodeType": "SynchronizedBeforeSuite"}
    report = [
        {"SpecReports": [before, entry("works", "passed", BEGINNING, "x"), entry("works", "passed", "[sig-node]")]}
    ]
    assert read(report) == [Spec(f"{BEGINNING} x works", "passed", "", 1.5)]


def test_why_is_what_the_failure_says() -> None:
    report = [{"SpecReports": [entry("works", "failed", BEGINNING, why="timed out")]}]
    assert read(report)[0].why == "timed out"


def test_a_pattern_is_text_with_gaps() -> None:
    assert matches("(block volmode)*store", BLOCK)
    assert not matches("(block volmode)*store", FILES)
    assert not matches("(.*)", FILES)


def test_what_is_never_run_is_not_chosen() -> None:
    assert chosen([FILES, BLOCK, RUDE], REASONS) == [FILES, BLOCK]
    assert chosen([FILES, BLOCK, RUDE], REASONS, ["default fs", "Disruptive"]) == [FILES]
    assert chosen([FILES, BLOCK, RUDE], REASONS, without=["default fs"]) == [BLOCK]


def test_a_pattern_that_fits_no_spec_is_told() -> None:
    assert stale([FILES, BLOCK, RUDE], REASONS) == []
    assert stale([FILES], REASONS) == ["NO SUCH SPEC [Disruptive]", "NO SUCH SPEC (block volmode)*volumes"]


def test_passed_and_skipped_as_listed_is_good() -> None:
    assert judge([FILES, BLOCK], [Spec(FILES, "passed"), Spec(BLOCK, "skipped", "no block")], REASONS) == []


def test_each_way_to_be_wrong_is_told() -> None:
    names = ["a", "b", "c", BLOCK]
    outcome = [Spec("a", "failed", "boom"), Spec("b", "skipped", "not here"), Spec(BLOCK, "passed")]
    assert judge(names, outcome, REASONS) == [
        "FAILED a: boom",
        "NEW SKIP b: not here",
        "NOT REPORTED c",
        f"LISTED AS SKIPPED, BUT RAN {BLOCK}",
    ]


def test_interrupted_is_no_success() -> None:
    assert judge(["a"], [Spec("a", "interrupted")], REASONS) == ["INTERRUPTED a: "]
    assert judge(["a"], [Spec("a", "pending")], REASONS) == ["PENDING a: "]


def test_figures_count_by_reason() -> None:
    outcome = [Spec(FILES, "passed"), Spec(BLOCK, "skipped"), Spec("another", "skipped")]
    assert figures([FILES, BLOCK, RUDE, "another"], [FILES, BLOCK], outcome, REASONS) == [
        "4 specs; 1 run: 1 passed, 0 failed",
        "     1 left out: no block devices",
        "     1 left out: the node has no sshd",
        "     1 not in this choice",
    ]

"""Specs of the suite: which are run, and what is wrong with their outcome. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BEGINNING = re.compile(r"External Storage \[Driver: [^]]*\] ")
_DONE = ("passed", "skipped")


@dataclass(frozen=True, slots=True)
class Spec:
    """``name``: all its texts in a row. ``why``: what it said when it failed or was skipped."""

    name: str
    state: str
    why: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reasons:
    """Reasons by pattern. ``never_run``: specs that are not started. ``skip``: those that look and skip themselves."""

    never_run: Mapping[str, str]
    skip: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Reasons:
        found = json.loads(path.read_text())
        return cls(found["never run"], found["skip themselves"])


def matches(pattern: str, name: str) -> bool:
    """Is the pattern in the name? ``*`` stands for anything."""
    return re.search(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def covered(name: str, patterns: Iterable[str]) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def read(report: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """The specs of external storage in a report as ginkgo writes it (``--json-report``)."""
    found = []
    for entry in (entry for suite in report for entry in suite["SpecReports"]):
        # As ginkgo matches it: a container without a text leaves no second space.
        name = " ".join(filter(None, [*(entry["ContainerHierarchyTexts"] or []), entry["LeafNodeText"]]))
        if entry["LeafNodeType"] == "It" and _BEGINNING.match(name):
            why = (entry.get("Failure") or {}).get("Message", "")
            found.append(Spec(name, entry["State"], why, entry["RunTime"] / 1e9))
    return found


def chosen(
    names: Iterable[str], reasons: Reasons, wanted: Iterable[str] = ("",), without: Iterable[str] = ()
) -> list[str]:
    """Those to start: wanted, and not among those that are never run."""
    patterns, others = list(wanted), [*without, *reasons.never_run]
    return [name for name in names if covered(name, patterns) and not covered(name, others)]


def stale(names: Sequence[str], reasons: Reasons) -> list[str]:
    """Patterns that fit no spec: a typing error, or a spec that is gone."""
    patterns = [*reasons.never_run, *reasons.skip]
    return [f"NO SUCH SPEC {pattern}" for pattern in patterns if not any(matches(pattern, name) for name in names)]


def judge(started: Iterable[str], outcome: Iterable[Spec], reasons: Reasons) -> list[str]:
    """What is wrong with the outcome of the specs that were started."""
    by_name = {spec.name: spec for spec in outcome}
    problems = []
    for name in started:
        spec = by_name.get(name)
        listed = covered(name, reasons.skip)
        if spec is None:
            problems.append(f"NOT REPORTED {name}")
        elif spec.state not in _DONE:
            problems.append(f"{spec.state.upper()} {name}: {spec.why}")
        elif spec.state == "skipped" and not listed:
            problems.append(f"NEW SKIP {name}: {spec.why}")
        elif spec.state == "passed" and listed:
            problems.append(f"LISTED AS SKIPPED, BUT RAN {name}")
    return problems


def figures(names: Sequence[str], started: Sequence[str], outcome: Iterable[Spec], reasons: Reasons) -> list[str]:
    """How many of what, a line for each."""
    begun = set(started)
    states = Counter(spec.state for spec in outcome if spec.name in begun)
    ran = len(started) - states["skipped"]
    lines = [f"{len(names)} specs; {ran} run: {states['passed']} passed, {ran - states['passed']} failed"]
    left_out: Counter[str] = Counter()
    for name in names:
        rows = reasons.skip if name in begun else reasons.never_run
        reason = next((reason for pattern, reason in rows.items() if matches(pattern, name)), None)
        if reason is not None:
            left_out[reason] += 1
    lines += [f"  {count:4} left out: {reason}" for reason, count in left_out.most_common()]
    others = len(names) - len(started) - sum(covered(name, reasons.never_run) for name in names)
    return [*lines, f"  {others:4} not in this choice"] if others else lines

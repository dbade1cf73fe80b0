"""The committed definitions, and their reference, are those that the record types give."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from csi.store.kube.kinds import KINDS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "crds.py"))


def test_the_files_are_what_the_records_give(tool: dict[str, Any]) -> None:
    made = tool["render"]()
    kept = {path.name: path.read_text() for path in (ROOT / "deploy" / "crds").glob("*.yaml")}
    assert kept == made, "run `make crds`"


def test_the_reference_is_what_the_definitions_give(tool: dict[str, Any]) -> None:
    assert (ROOT / "docs" / "crds.md").read_text() == tool["reference"](), "run `make crds`"


def test_every_field_that_people_may_write_is_explained(tool: dict[str, Any]) -> None:
    silent = []
    for kind in KINDS:
        schema = tool["definition"](kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        fields = schema["properties"]["spec"]["properties"] if kind.by_people else {}
        silent += [f"{kind.name}.{name}" for name, field in fields.items() if not field.get("description")]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_number_of_the_status_that_a_column_shows_is_defined(kind: Any) -> None:
    shown = {column.path.removeprefix(".status.") for column in kind.columns if column.path.startswith(".status.")}
    assert shown <= {"phase", "message", *(figure.name for figure in kind.figures)}

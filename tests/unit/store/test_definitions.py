"""The committed definitions are those that the record types give."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_files_are_what_the_records_give() -> None:
    made = runpy.run_path(str(ROOT / "tools" / "crds.py"))["render"]()
    kept = {path.name: path.read_text() for path in (ROOT / "deploy" / "crds").glob("*.yaml")}
    assert kept == made, "run `python tools/crds.py`"

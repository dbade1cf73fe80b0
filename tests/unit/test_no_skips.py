"""What CI shows as green was run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SKIPPING = """
import pytest

@pytest.mark.skip(reason="no time")
def test_left_out(): ...

def test_run(): ...
"""
RUNNING = "def test_run(): ...\n"


def run(tests: str, directory: Path, ci: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_sample.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.no_skips", "-p", "no:cacheprovider", "test_sample.py"],
        cwd=directory,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("1", 1), ("", 0), ("false", 0)])
def test_a_skip_fails_where_ci_is_set(ci: str, status: int, tmp_path: Path) -> None:
    done = run(SKIPPING, tmp_path, ci)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("test_sample.py::test_left_out: Skipped: no time" in done.stdout) is (status == 1)


def test_without_a_skip_ci_is_green(tmp_path: Path) -> None:
    done = run(RUNNING, tmp_path, "true")
    assert done.returncode == 0, done.stdout + done.stderr

"""The shape of the code: sizes and names that ruff has no rule for."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

FILE_LIMIT = 400
FUNCTION_LIMIT = 60

# What may be longer, and why. "path" for a file, "path:function" for a function.
EXCEPTIONS: dict[str, str] = {}

VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base"}


def tracked() -> list[Path]:
    """Every file of the project that is there; one that git does not know yet counts too."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def modules(*folders: str) -> list[Path]:
    return [
        path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in (folders or ("csi",))
    ]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and lines of every function, decorators left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def too_long() -> dict[str, int]:
    found = {}
    for path in modules():
        source = path.read_text()
        lines = len(source.splitlines())
        if lines > FILE_LIMIT:
            found[name(path)] = lines
        for function, length in functions(source):
            if length > FUNCTION_LIMIT:
                found[f"{name(path)}:{function}"] = length
    return found


def test_nothing_is_longer_than_a_reader_can_hold() -> None:
    assert {what: lines for what, lines in too_long().items() if what not in EXCEPTIONS} == {}


def test_no_exception_has_outlived_its_reason() -> None:
    assert set(EXCEPTIONS) - set(too_long()) == set()


def test_lengths_are_counted_as_a_reader_counts_them() -> None:
    body = "\n".join(f"    x{i} = {i}" for i in range(FUNCTION_LIMIT))
    assert list(functions(f"@decorator\nasync def long():\n{body}\n")) == [("long", FUNCTION_LIMIT + 1)]


def test_no_module_has_a_name_that_tells_nothing() -> None:
    assert [
        name(p) for p in modules("csi", "tests", "benchmarks") if VAGUE & {*p.relative_to(ROOT).parts, p.stem}
    ] == []


def test_every_module_says_what_it_is_for() -> None:
    sources = {path: path.read_text() for path in modules("csi", "benchmarks")}
    assert [name(p) for p, text in sources.items() if text.strip() and not ast.get_docstring(ast.parse(text))] == []


def test_nothing_names_a_place_on_the_machine_of_a_developer() -> None:
    place = re.compile(rb"(?<![\w.})*])/(?:work|home)/")
    assert place.search(b"see /work" + b"/main")
    assert not place.search(b"{disk}/work" + b"/x")
    assert [name(path) for path in tracked() if place.search(path.read_bytes())] == []

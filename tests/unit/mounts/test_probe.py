"""Probes: an answer, an error, silence; and that silence costs one process, not one for each who asks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi.mounts.mountinfo import MountEntry
from csi.mounts.probe import Probes


def entry(path: Path, ident: int = 1) -> MountEntry:
    return MountEntry(ident, 0, "0:5", "/", str(path), ("rw",), "tmpfs", "tmpfs", ("rw",))


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ``stat`` that answers only when the file "go" appears; it notes each start in "starts"."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "stat").write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/starts\nwhile ! [ -e {tmp_path}/go ]; do sleep 0.02; done\n"
        "echo 4096 100 60 50 10 4\n"
    )
    (tools / "stat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    yield tmp_path
    (tmp_path / "go").touch()


async def test_a_file_system_that_answers(tmp_path: Path) -> None:
    answer = await Probes(5).ask(entry(tmp_path))
    assert answer.reason == ""
    assert answer.usage is not None
    expected = os.statvfs(tmp_path)
    assert answer.usage.total == expected.f_blocks * expected.f_frsize
    assert answer.usage.inodes == expected.f_files


async def test_an_error_is_told_without_the_path(tmp_path: Path) -> None:
    answer = await Probes(5).ask(entry(tmp_path / "gone"))
    assert (answer.usage, answer.reason, answer.silent) == (None, "No such file or directory", False)


async def test_silence_is_shared_and_ends(hanging: Path) -> None:
    probes = Probes(0.2)
    began = time.monotonic()
    answers = await asyncio.gather(*(probes.ask(entry(hanging)) for _ in range(20)))
    answers += [await probes.ask(entry(hanging))]
    assert time.monotonic() - began < 2
    assert all(answer.silent and answer.reason == "no answer within 0.2 s" for answer in answers)
    assert (hanging / "starts").read_text().count("x") == 1
    # Another mount at the same path is asked for itself.
    assert (await probes.ask(entry(hanging, ident=2))).silent
    assert (hanging / "starts").read_text().count("x") == 2
    (hanging / "go").touch()
    probes.timeout = 5
    answer = await probes.ask(entry(hanging))
    assert answer.usage is not None
    assert (answer.usage.used, answer.usage.available, answer.usage.inodes_used) == (40 * 4096, 50 * 4096, 6)
    assert (hanging / "starts").read_text().count("x") == 2
    await probes.ask(entry(hanging, ident=2))


async def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = await Probes(5).ask(entry(tmp_path))
    assert answer.silent
    assert "cannot run stat" in answer.reason

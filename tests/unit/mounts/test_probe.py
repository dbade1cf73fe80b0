"""Probes: an answer, an error, silence; and that silence costs one process, not one for each who asks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from csi.mounts.mountinfo import MountEntry
from csi.mounts.probe import Probes


def children() -> set[int]:
    """The processes that this one has started and that run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = stat.read_text().rpartition(") ")[2].split()
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(stat.parent.name))
    return found


def entry(path: Path, ident: int = 1) -> MountEntry:
    return MountEntry(ident, 0, "0:5", "/", str(path), ("rw",), "tmpfs", "tmpfs", ("rw",))


@pytest.fixture
async def probes() -> AsyncIterator[Probes]:
    probes = Probes(5)
    yield probes
    await probes.close()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A prober that answers only when the file "go" appears; it notes each question in "questions"."""
    script = (
        f"while read -r path; do echo x >> {tmp_path}/questions; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done; "
        "echo usage 4096 100 60 50 10 4; done"
    )
    yield "/bin/sh", "-c", script
    (tmp_path / "go").touch()


async def test_a_file_system_that_answers(probes: Probes, tmp_path: Path) -> None:
    answer = await probes.ask(entry(tmp_path))
    assert answer.reason == ""
    assert answer.usage is not None
    expected = os.statvfs(tmp_path)
    assert answer.usage.total == expected.f_blocks * expected.f_frsize
    assert answer.usage.inodes == expected.f_files


async def test_an_error_is_told_without_the_path(probes: Probes, tmp_path: Path) -> None:
    answer = await probes.ask(entry(tmp_path / "gone"))
    assert (answer.usage, answer.reason, answer.silent) == (None, "No such file or directory", False)


async def test_a_path_may_hold_any_character(probes: Probes, tmp_path: Path) -> None:
    strange = tmp_path / "a\nb 'c' \udcff"
    strange.mkdir()
    assert (await probes.ask(entry(strange))).usage is not None


async def test_one_prober_answers_one_question_after_the_other(probes: Probes, tmp_path: Path) -> None:
    before = children()
    for number in range(5):
        assert (await probes.ask(entry(tmp_path, number))).usage is not None
        assert len(children() - before) == 1
    await probes.close()
    assert children() == before


async def test_a_prober_that_was_killed_is_replaced(probes: Probes, tmp_path: Path) -> None:
    before = children()
    await probes.ask(entry(tmp_path))
    (pid,) = children() - before
    os.kill(pid, 9)
    assert (await probes.ask(entry(tmp_path))).usage is not None


async def test_one_that_says_nothing_sensible_is_silence(tmp_path: Path) -> None:
    for program, reason in (("exit 0", "ended"), ("read -r path; echo what", "'what'")):
        probes = Probes(5, ("/bin/sh", "-c", program))
        answer = await probes.ask(entry(tmp_path))
        assert answer.silent
        assert reason in answer.reason
        await probes.close()


async def test_silence_is_shared_and_ends(hanging: tuple[str, ...], tmp_path: Path) -> None:
    probes = Probes(0.2, hanging)
    questions = tmp_path / "questions"
    began = time.monotonic()
    answers = await asyncio.gather(*(probes.ask(entry(tmp_path)) for _ in range(20)))
    answers += [await probes.ask(entry(tmp_path))]
    assert time.monotonic() - began < 10
    assert all(answer.silent and answer.reason == "no answer within 0.2 s" for answer in answers)
    assert questions.read_text().count("x") == 1
    # Another mount at the same path is asked for itself.
    assert (await probes.ask(entry(tmp_path, ident=2))).silent
    assert questions.read_text().count("x") == 2
    (tmp_path / "go").touch()
    probes.timeout = 5
    answer = await probes.ask(entry(tmp_path))
    assert answer.usage is not None
    assert (answer.usage.used, answer.usage.available, answer.usage.inodes_used) == (40 * 4096, 50 * 4096, 6)
    await probes.ask(entry(tmp_path, ident=2))
    await probes.close()


async def test_without_the_program(tmp_path: Path) -> None:
    answer = await Probes(5, ("/nowhere/python",)).ask(entry(tmp_path))
    assert answer.silent
    assert "cannot run /nowhere/python" in answer.reason

"""What every Runner promises on real machines: how commands end, and what their shell is like."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from csi.core.command import Command
from csi.core.errors import CommandTimeout, HostUnreachable
from csi.hosts.shell import OUTPUT_LIMIT
from tests.contract.runners.bench import Bench
from tests.contract.runners.processes import alive, gone, lasting, pid_from

# --- ends -------------------------------------------------------------------------------------


async def test_a_timeout_ends_the_command_and_its_children(real: Bench, tmp_path: Path) -> None:
    with pytest.raises(CommandTimeout):
        await real.run(lasting(tmp_path / "pid"), timeout=0.3)
    assert await gone(tmp_path / "pid")


async def test_a_cancellation_ends_the_command_and_its_children(real: Bench, tmp_path: Path) -> None:
    task = asyncio.create_task(real.run(lasting(tmp_path / "pid")))
    pid = await pid_from(tmp_path / "pid")
    assert alive(pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(tmp_path / "pid")


async def test_a_caller_that_does_not_even_wait_for_the_end_changes_nothing(real: Bench, tmp_path: Path) -> None:
    task = asyncio.create_task(real.run(lasting(tmp_path / "pid")))
    await pid_from(tmp_path / "pid")
    while not task.done():  # each cancels the waiting for what the one before began
        task.cancel()
        await asyncio.sleep(0)
    while not await gone(tmp_path / "pid"):
        await asyncio.sleep(0.05)
    answers = await asyncio.gather(*(real.run(("echo", "x")) for _ in range(20)))
    assert {answer[0].stdout for answer in answers} == {"x\n"}


async def test_closing_ends_what_runs(real: Bench, tmp_path: Path) -> None:
    task = asyncio.create_task(real.run(lasting(tmp_path / "pid")))
    await pid_from(tmp_path / "pid")
    await real.runner.close()
    with pytest.raises(HostUnreachable):
        await task
    assert await gone(tmp_path / "pid")


async def test_a_command_that_was_ended_does_not_let_later_ones_run(real: Bench, tmp_path: Path) -> None:
    with pytest.raises(CommandTimeout):
        await real.run(("sleep", "1"), ("touch", str(tmp_path / "late")), timeout=0.2)
    await asyncio.sleep(1.2)
    assert not (tmp_path / "late").exists()


async def test_a_shell_that_dies_says_so_and_another_takes_over(real: Bench) -> None:
    with pytest.raises(HostUnreachable, match="the shell ended"):
        await real.run(("sh", "-c", "kill -9 $PPID"))
    assert (await real.run(("echo", "x")))[0].stdout == "x\n"


# --- the shell --------------------------------------------------------------------------------


async def test_big_output_is_cut_at_the_limit_and_says_so(real: Bench) -> None:
    size = 3 * OUTPUT_LIMIT + 17
    flood = ("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x; head -c {size} /dev/zero | tr '\\0' y >&2")
    results = await real.run(flood, ("echo", "after"))
    note = f"\n[{size - OUTPUT_LIMIT} more bytes dropped]\n"
    assert results[0].stdout == "x" * OUTPUT_LIMIT + note
    assert results[0].stderr == "y" * OUTPUT_LIMIT + note
    assert results[1].stdout == "after\n"


async def test_any_text_comes_back_as_it_was(real: Bench) -> None:
    text = "".join(map(chr, range(1, 0x300))) + "日本語 🗄️ \udcff\udc80"
    results = await real.run(("printf", "%s", text), Command(("cat",), stdin=text))
    assert [result.stdout for result in results] == [text, text]


async def test_the_shell_is_the_same_for_all_hosts(real: Bench) -> None:
    probe = 'echo "$LC_ALL $PATH"; umask; pwd; ls /proc/self/fd | wc -l'
    (result,) = await real.run(("sh", "-c", probe))
    assert result.stdout.splitlines() == [
        "C /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "0022",
        "/",
        "4",
    ]


async def test_nothing_of_our_environment_goes_to_the_host(real: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUSTER_CSI_SECRET", "hush")
    (result,) = await real.run(("env",))
    assert "hush" not in result.stdout


@pytest.mark.parametrize("word", ["exit", "exec", "cd", "set", "", "."])
async def test_what_would_change_the_shell_is_refused(real: Bench, word: str) -> None:
    with pytest.raises(ValueError, match="command"):
        await real.run((word, "1"))
    assert (await real.run(("echo", "x")))[0].stdout == "x\n"


async def test_a_short_script_is_one_short_round_trip(real: Bench) -> None:
    """A wide bound: a new process, or a login shell, per command would break it."""
    await real.run(("true",))
    times = []
    for _ in range(50):
        began = time.perf_counter()
        await real.run(*([("true",)] * 10))
        times.append(time.perf_counter() - began)
    assert sorted(times)[10] < 0.02

"""What every Runner promises of scripts, over every way to a host; what only ssh can show is in ``test_ssh.py``."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from csi.core.command import Command, Result
from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable
from tests.contract.runners.bench import Bench

# --- results ----------------------------------------------------------------------------------


async def test_status_stdout_and_stderr_come_apart(bench: Bench) -> None:
    (result,) = await bench.run(Command(bench.say("to the one", "to the other", 3), ok=(3,)))
    assert result == Result(3, "to the one", "to the other")


async def test_results_come_in_the_order_of_the_commands(bench: Bench) -> None:
    results = await bench.run(*(bench.say(f"{n}\n") for n in range(12)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(12)]


async def test_nothing_to_do_is_done(bench: Bench) -> None:
    assert await bench.run() == ()


async def test_the_first_failure_ends_the_script_and_is_raised(bench: Bench) -> None:
    bad = bench.say("partly", "it broke", 4)
    with pytest.raises(CommandFailed) as caught:
        await bench.run(bench.say("good"), bad, bench.wait(60))
    assert caught.value.argv == bad
    assert caught.value.status == 4
    assert "it broke" in str(caught.value)
    assert bench.host.manage in str(caught.value)


async def test_an_accepted_status_does_not_end_the_script(bench: Bench) -> None:
    results = await bench.run(Command(bench.say(status=2), ok=(0, 2)), bench.say("on"))
    assert [(r.status, r.stdout) for r in results] == [(2, ""), (0, "on")]


async def test_zero_is_a_failure_where_it_is_not_accepted(bench: Bench) -> None:
    with pytest.raises(CommandFailed):
        await bench.run(Command(bench.say(status=0), ok=(1,)))


async def test_a_command_is_skipped_when_its_probe_succeeds(bench: Bench) -> None:
    results = await bench.run(
        Command(bench.say("made", status=9), unless=bench.say("there", "already", 0)),
        Command(bench.say("made"), unless=bench.say("not there", "yet", 1)),
    )
    assert results == (Result(0, skipped=True), Result(0, "made"))


async def test_a_program_that_is_not_there_fails_by_name(bench: Bench) -> None:
    with pytest.raises(CommandFailed) as caught:
        await bench.run(("no-such-program", "x"))
    assert caught.value.status == 127
    assert "no-such-program" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["one line\n", "no newline", "two\nlines\n\n", "'; exit 9; '\n$(exit 9)`exit 9`\\", "x" * 300_000]
)
async def test_stdin_arrives_as_it_is(bench: Bench, text: str) -> None:
    (result,) = await bench.run(Command(bench.echo, stdin=text))
    assert result.stdout == text


async def test_without_stdin_there_is_nothing_to_read(bench: Bench) -> None:
    results = await bench.run(bench.echo, bench.say("after"))
    assert [r.stdout for r in results] == ["", "after"]


# --- time, and callers that go away -----------------------------------------------------------


async def test_a_script_that_takes_too_long_names_the_command(bench: Bench) -> None:
    slow = bench.wait(60)
    with pytest.raises(CommandTimeout) as caught:
        await bench.run(bench.say("quick"), slow, bench.say("never"), timeout=0.3)
    assert caught.value.argv == slow
    assert caught.value.seconds == 0.3
    assert bench.host.manage in str(caught.value)


async def test_what_is_silent_has_its_result_like_the_rest(bench: Bench) -> None:
    silent = Command(("csi_brick_ours", "/nowhere/brick", "/nowhere/mount", "text"))
    fails = Command(("csi_device_claimed", "/nowhere/mark", "text"))
    assert await bench.run(silent, silent) == (Result(0), Result(0))
    results = await bench.run(silent, bench.say("one"), silent, silent, bench.say("two"))
    assert results == (Result(0), Result(0, "one"), Result(0), Result(0), Result(0, "two"))
    with pytest.raises(CommandFailed) as caught:
        await bench.run(silent, bench.say("one"), silent, fails, bench.say("never"))
    assert (caught.value.argv, caught.value.status, caught.value.stderr) == (fails.argv, 71, "")
    told = replace(fails, ok=(0, 71))
    assert await bench.run(silent, told, silent) == (Result(0), Result(71), Result(0))
    slow = bench.wait(60)
    with pytest.raises(CommandTimeout) as late:
        await bench.run(silent, bench.say("one"), silent, slow, timeout=0.3)
    assert late.value.argv == slow


async def test_the_host_is_usable_after_timeouts_and_cancellations(bench: Bench) -> None:
    for _ in range(3):
        with pytest.raises(CommandTimeout):
            await bench.run(bench.wait(60), timeout=0.05)
        task = asyncio.create_task(bench.run(bench.wait(60)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await bench.run(bench.say("still here")))[0].stdout == "still here"


async def test_twenty_scripts_at_once(bench: Bench) -> None:
    answers = await asyncio.gather(*(bench.run(bench.say(f"{n}."), bench.say(f"{n}!")) for n in range(20)))
    assert [[r.stdout for r in answer] for answer in answers] == [[f"{n}.", f"{n}!"] for n in range(20)]


async def test_scripts_of_one_host_run_side_by_side(bench: Bench) -> None:
    await asyncio.gather(*(bench.run(bench.say()) for _ in range(4)))
    began = time.monotonic()
    await asyncio.gather(*(bench.run(bench.wait(1.0)) for _ in range(4)))
    assert time.monotonic() - began < 3


async def test_cancellation_at_any_moment_leaves_the_pool_whole(bench: Bench) -> None:
    """More callers than sessions go away, each after another delay: before, while and after a session was theirs."""
    for delay in (0.0, 0.001, 0.003, 0.01, 0.03):
        tasks = [asyncio.create_task(bench.run(bench.say("x"), bench.wait(0.02))) for _ in range(12)]
        await asyncio.sleep(delay)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, tuple | asyncio.CancelledError) for end in ended)
        assert [end[0].stdout for end in ended[1::2] if isinstance(end, tuple)] == ["x"] * 6
    answers = await asyncio.gather(*(bench.run(bench.say(str(n))) for n in range(20)))
    assert [answer[0].stdout for answer in answers] == [str(n) for n in range(20)]


async def test_a_closed_runner_reaches_nothing(bench: Bench) -> None:
    await bench.run(bench.say("x"))
    await bench.runner.close()
    with pytest.raises(HostUnreachable, match="closed"):
        await bench.run(bench.say("x"))

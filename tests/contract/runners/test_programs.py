"""What every Runner promises of long-lived programs on real machines, which are asked and answer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from csi.core.command import Command, Script
from csi.core.errors import CommandTimeout, HostUnreachable
from tests.contract.runners.bench import Bench
from tests.contract.runners.processes import alive, pid_from


async def test_a_program_answers_as_often_as_it_is_asked(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("cat",))
    for n in range(20):
        await channel.write(f"question {n};".encode())
        assert await channel.read_until(b";", 5) == f"question {n};".encode()
    await channel.write(b"a;b;c")
    assert [await channel.read_until(b";", 5), await channel.read_until(b";", 5)] == [b"a;", b"b;"]
    await channel.close()


async def test_words_of_a_program_are_not_shell_text(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("printf", "%s;", "$(id)", "a b", "'; id '"))
    assert [await channel.read_until(b";", 5) for _ in range(4)] == [b"$(id);", b"a b;", b"';", b" id ';"]
    await channel.close()


async def test_a_program_that_keeps_silent_times_out_and_can_be_asked_again(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("cat",))
    await channel.write(b"half")
    with pytest.raises(CommandTimeout):
        await channel.read_until(b";", 0.1)
    await channel.write(b" whole;")
    assert await channel.read_until(b";", 5) == b"half whole;"
    await channel.close()


async def test_the_end_of_a_program_is_seen_with_its_last_words(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("sh", "-c", "read x; echo bad luck >&2; exit 1"))
    await channel.write(b"x\n")
    with pytest.raises(HostUnreachable, match="bad luck"):
        await channel.read_until(b";", 5)
    with pytest.raises(HostUnreachable):
        await channel.write(b"x\n")
    await channel.close()


async def test_a_program_that_is_not_there_is_named(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("no-such-program",))
    with pytest.raises(HostUnreachable, match="no-such-program"):
        await channel.read_until(b";", 5)
    await channel.close()


async def test_an_answer_beyond_the_limit_is_an_error(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("yes",))
    with pytest.raises(HostUnreachable, match="100000 bytes"):
        await channel.read_until(b";", 5, limit=100_000)
    await channel.close()


async def test_a_program_that_nobody_listens_to_does_not_fill_the_memory(
    real: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("csi.hosts.sessions.UNREAD_LIMIT", 1_000_000)
    chatter = ("sh", "-c", 'echo $$ >"$1"; exec yes', "sh", str(tmp_path / "pid"))
    channel = await real.runner.open(real.host, chatter)
    pid = await pid_from(tmp_path / "pid")
    await asyncio.sleep(0.2)
    with pytest.raises(HostUnreachable, match="nobody read"):
        await channel.write(b"x")
    await channel.close()
    assert not alive(pid)


async def test_closing_a_channel_ends_a_program_that_hangs(real: Bench, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    stubborn = ("sh", "-c", 'trap "" TERM HUP; echo $$ >"$1"; sleep 300 & wait; sleep 300', "sh", str(path))
    channel = await real.runner.open(real.host, stubborn)
    pid = await pid_from(path)
    await asyncio.gather(channel.close(), channel.close())
    assert not alive(pid)


async def test_a_reader_learns_that_its_channel_was_closed(real: Bench) -> None:
    channel = await real.runner.open(real.host, ("cat",))
    reader = asyncio.create_task(channel.read_until(b";", 30))
    await asyncio.sleep(0.05)
    await channel.close()
    with pytest.raises(HostUnreachable):
        await asyncio.wait_for(reader, 10)


async def test_programs_leave_sessions_for_scripts_and_give_theirs_back(real: Bench) -> None:
    channels = [await real.runner.open(real.host, ("cat",)) for _ in range(6)]
    with pytest.raises(HostUnreachable, match="the others are for scripts"):
        await real.runner.open(real.host, ("cat",))
    async with asyncio.timeout(20):
        await asyncio.gather(*(real.runner.run(real.host, Script((Command(("true",)),))) for _ in range(20)))
        await asyncio.gather(*(channel.close() for channel in channels))
        again = await real.runner.open(real.host, ("cat",))
        await again.close()


async def test_closing_the_runner_ends_its_programs(real: Bench, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    await real.runner.open(real.host, ("sh", "-c", 'echo $$ >"$1"; exec sleep 300', "sh", str(path)))
    pid = await pid_from(path)
    await real.runner.close()
    assert not alive(pid)
    assert pid != os.getpid()

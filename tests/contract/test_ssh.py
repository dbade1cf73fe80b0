"""What only ssh has: host keys, logins, session limits, and connections that break."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from csi.core.errors import CommandTimeout, HostUnreachable
from csi.core.model import Host
from csi.hosts.ssh import SshRunner, SshSettings
from tests.contract.runners.bench import Bench, a_host, script
from tests.contract.runners.processes import alive, gone, lasting, pid_from
from tests.contract.sshd import Sshd

MakeRunner = Callable[..., SshRunner]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def runner_with(server: Sshd) -> AsyncIterator[MakeRunner]:
    made: list[SshRunner] = []

    def make(**settings: object) -> SshRunner:
        defaults = {"key_file": str(server.key_file), "known_hosts": str(server.known_hosts)}
        made.append(SshRunner(SshSettings(**{**defaults, **settings})))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for runner in made:
        await runner.close()


async def unreachable(runner: SshRunner, host: Host) -> str:
    with pytest.raises(HostUnreachable) as caught:
        await runner.run(host, script(("echo", "x")))
    return str(caught.value)


async def reaches(runner: SshRunner, host: Host) -> bool:
    return (await runner.run(host, script(("echo", "x"))))[0].stdout == "x\n"


# --- who is there, and who may log in ---------------------------------------------------------


async def test_a_host_with_another_key_is_refused_with_the_remedy(server: Sshd, runner_with: MakeRunner) -> None:
    server.remember("stranger")
    said = await unreachable(runner_with(), a_host(server.manage))
    assert str(server.known_hosts) in said
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >>" in said


async def test_a_host_that_is_not_known_is_refused(server: Sshd, runner_with: MakeRunner) -> None:
    server.known_hosts.write_text("")
    assert "ssh-keyscan" in await unreachable(runner_with(), a_host(server.manage))


async def test_a_missing_known_hosts_file_is_named(server: Sshd, runner_with: MakeRunner) -> None:
    server.known_hosts.unlink()
    said = await unreachable(runner_with(), a_host(server.manage))
    assert f"{server.known_hosts} cannot be read" in said
    assert "ssh-keyscan" in said


async def test_insecure_host_keys_reach_any_host_and_warn_once(server: Sshd, runner_with: MakeRunner) -> None:
    server.remember("stranger")
    with capture_logs() as logs:
        runner = runner_with(insecure_host_keys=True)
        assert await reaches(runner, a_host(server.manage))
        assert await reaches(runner, a_host(server.manage))
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "NOT verified" in warnings[0]["event"]


async def test_a_key_that_the_host_refuses_is_named(server: Sshd, runner_with: MakeRunner) -> None:
    said = await unreachable(runner_with(key_file=str(server.stranger)), a_host(server.manage))
    assert str(server.stranger) in said
    assert "authorized_keys" in said


@pytest.mark.parametrize("content", [None, "no key at all"])
async def test_a_key_file_that_is_no_key_is_named(server: Sshd, runner_with: MakeRunner, content: str | None) -> None:
    path = server.directory / "broken"
    if content is not None:
        path.write_text(content)
    assert str(path) in await unreachable(runner_with(key_file=str(path)), a_host(server.manage))


async def test_a_key_with_a_passphrase_is_named(server: Sshd, runner_with: MakeRunner) -> None:
    path = server.directory / "locked"
    keygen = await asyncio.create_subprocess_exec("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path))
    await keygen.wait()
    assert str(path) in await unreachable(runner_with(key_file=str(path)), a_host(server.manage))


async def test_shells_can_be_started_by_sudo(server: Sshd, runner_with: MakeRunner, tmp_path: Path) -> None:
    runner = runner_with(sudo=True)
    host = a_host(server.manage)
    (result,) = await runner.run(host, script(("sh", "-c", 'echo "$SUDO_COMMAND"; id -u')))
    assert result.stdout == "/bin/sh\n0\n"
    with pytest.raises(CommandTimeout):
        await runner.run(host, script(lasting(tmp_path / "pid"), timeout=0.5))
    assert await gone(tmp_path / "pid")


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_host_with_few_sessions_is_served_by_few(
    tmp_path: Path, runner_with: MakeRunner, server: Sshd, limit: int
) -> None:
    server.stop()
    narrow = Sshd(tmp_path, f"MaxSessions {limit}")
    narrow.start()
    try:
        bench = Bench(runner_with(), a_host(narrow.manage))
        answers = await asyncio.gather(*(bench.run(("echo", str(n)), ("sleep", "0.05")) for n in range(12)))
        assert [answer[0].stdout for answer in answers] == [f"{n}\n" for n in range(12)]
        # With all sessions in use there is none to end a command through: it takes another connection.
        slow = [bench.run(lasting(tmp_path / f"pid{n}"), timeout=0.5) for n in range(limit)]
        ends = await asyncio.gather(*slow, return_exceptions=True)
        assert [type(end) for end in ends] == [CommandTimeout] * limit
        assert all([await gone(tmp_path / f"pid{n}") for n in range(limit)])
        assert (await bench.run(("echo", "x")))[0].stdout == "x\n"
    finally:
        narrow.stop()


async def test_callers_at_once_share_one_connection(server: Sshd, runner_with: MakeRunner) -> None:
    runner = runner_with()
    assert all(await asyncio.gather(*(reaches(runner, a_host(server.manage)) for _ in range(10))))
    assert len(server.connections()) == 1


async def test_one_caller_that_goes_away_does_not_take_the_others_connection(
    server: Sshd, runner_with: MakeRunner
) -> None:
    runner = runner_with()
    first, second = (asyncio.create_task(reaches(runner, a_host(server.manage))) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second
    assert first.cancelled()


async def test_callers_that_go_away_while_a_session_opens_leave_none_behind(
    server: Sshd, runner_with: MakeRunner
) -> None:
    """More of them than the host allows sessions; each goes away while the host is about to answer."""
    bench = Bench(runner_with(), a_host(server.manage))
    holder = asyncio.create_task(bench.run(("sleep", "3")))
    await asyncio.sleep(0.3)
    for _ in range(12):
        server.freeze()
        leaver = asyncio.create_task(bench.run(("true",)))
        await asyncio.sleep(0.02)
        leaver.cancel()
        await asyncio.wait((leaver,))
        server.thaw()
        await asyncio.sleep(0.05)
    await holder
    with capture_logs() as logs:
        await asyncio.gather(*(bench.run(("sleep", "0.3")) for _ in range(8)))
    assert logs == []


# --- connections that break -------------------------------------------------------------------


async def test_a_host_that_is_not_there(server: Sshd, runner_with: MakeRunner) -> None:
    server.stop()
    with socket.socket() as held:  # so that nobody else listens there meanwhile
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", server.port))
        runner = runner_with()
        host = a_host(server.manage)
        first = await unreachable(runner, host)
        assert host.manage in first
        assert "refused" in first.lower()
        again = await unreachable(runner, host)
        assert re.search(r"refused.*; next try in 0\.\d s", again, re.IGNORECASE)


async def test_a_host_that_comes_back_is_soon_used_again(server: Sshd, runner_with: MakeRunner) -> None:
    runner = runner_with()
    host = a_host(server.manage)
    assert await reaches(runner, host)
    server.stop()
    for _ in range(20):
        await unreachable(runner, host)
        await asyncio.sleep(0.05)
    server.start()
    began = time.monotonic()
    while time.monotonic() - began < 5.5:
        try:
            assert await reaches(runner, host)
        except HostUnreachable:
            await asyncio.sleep(0.1)
        else:
            return
    pytest.fail("the host is not used again within 5.5 s")


async def test_a_connection_that_breaks_when_idle_is_not_noticed_by_callers(
    server: Sshd, runner_with: MakeRunner
) -> None:
    runner = runner_with()
    host = a_host(server.manage)
    for _ in range(3):
        assert await reaches(runner, host)
        server.cut()
        await asyncio.sleep(0.2)
    assert await reaches(runner, host)


async def test_what_ran_on_a_broken_connection_is_ended_before_anything_else_runs(
    server: Sshd, runner_with: MakeRunner, tmp_path: Path
) -> None:
    runner = runner_with()
    host = a_host(server.manage)
    running = asyncio.create_task(runner.run(host, script(lasting(tmp_path / "pid"), ("touch", "/nonexistent/x"))))
    pid = await pid_from(tmp_path / "pid")
    server.cut()
    with pytest.raises(HostUnreachable, match=r"connection broke.* during 'sh -c"):
        await running
    assert alive(pid)
    assert await reaches(runner, host)
    assert await gone(tmp_path / "pid")


async def test_a_silent_cut_is_noticed(server: Sshd, runner_with: MakeRunner, tmp_path: Path) -> None:
    runner = runner_with(keepalive_interval=0.2)
    host = a_host(server.manage)
    running = asyncio.create_task(runner.run(host, script(lasting(tmp_path / "pid"), timeout=60)))
    await pid_from(tmp_path / "pid")
    server.freeze()
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="connection broke"):
        await running
    assert time.monotonic() - began < 20
    assert await reaches(runner, host)
    assert await gone(tmp_path / "pid")


async def test_a_timeout_on_a_silent_connection_does_not_claim_that_the_command_has_ended(
    server: Sshd, runner_with: MakeRunner, tmp_path: Path
) -> None:
    runner = runner_with(keepalive_interval=1.0)
    host = a_host(server.manage)
    running = asyncio.create_task(runner.run(host, script(lasting(tmp_path / "pid"), timeout=0.5)))
    pid = await pid_from(tmp_path / "pid")
    server.freeze()
    with pytest.raises(HostUnreachable, match="could not be ended"):
        await running
    assert alive(pid)
    assert await reaches(runner, host)
    assert await gone(tmp_path / "pid")


async def test_a_host_that_accepts_and_says_nothing(runner_with: MakeRunner) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    began = time.monotonic()
    assert "within 0.3 s" in await unreachable(runner_with(connect_timeout=0.3), a_host(f"127.0.0.1:{port}"))
    assert time.monotonic() - began < 15
    listener.close()
    await listener.wait_closed()


async def test_a_program_learns_that_its_connection_broke(server: Sshd, runner_with: MakeRunner) -> None:
    runner = runner_with()
    host = a_host(server.manage)
    channel = await runner.open(host, ("cat",))
    reader = asyncio.create_task(channel.read_until(b";", 30))
    await asyncio.sleep(0.05)
    server.cut()
    with pytest.raises(HostUnreachable, match="connection broke"):
        await reader
    with pytest.raises(HostUnreachable):
        await channel.write(b"x")
    await channel.close()
    again = await runner.open(host, ("cat",))
    await again.write(b"x;")
    assert await again.read_until(b";", 5) == b"x;"
    await again.close()


async def test_a_host_without_a_usable_shell_says_why(tmp_path: Path, server: Sshd, runner_with: MakeRunner) -> None:
    server.stop()
    closed = Sshd(tmp_path, "ForceCommand echo this account is locked; exit 1")
    closed.start()
    try:
        assert "this account is locked" in await unreachable(runner_with(), a_host(closed.manage))
    finally:
        closed.stop()

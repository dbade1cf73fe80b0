"""What every Runner promises, over every way to a host.

A further implementation is one more entry in ``KINDS``. What only a real machine can show has ``real`` as fixture,
what only ssh can show is in ``test_ssh.py``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from csi.core.command import Command, Result, Script
from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable
from csi.core.model import ClusterId, Host
from csi.core.naming import host_id
from csi.hosts.kube import KubeRunner, KubeSettings
from csi.hosts.local import LocalRunner
from csi.hosts.shell import OUTPUT_LIMIT
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.hosts.ssh import SshRunner, SshSettings
from csi.kubernetes.client import KubernetesApi
from csi.ports import Runner
from tests.cluster.cluster import Cluster
from tests.cluster.pods import pod, wait_until_ready
from tests.contract.exec_server import ExecServer
from tests.contract.sshd import Sshd


def a_host(manage: str) -> Host:
    return Host(host_id(manage), ClusterId("c" * 32), manage, manage, 1)


def say(out: str = "", err: str = "", status: int = 0) -> tuple[str, ...]:
    """A command that says this and ends so."""
    return ("sh", "-c", 'printf %s "$1"; printf %s "$2" >&2; exit "$3"', "sh", out, err, str(status))


def script(*commands: Command | tuple[str, ...], timeout: float = 10.0) -> Script:
    return Script(tuple(c if isinstance(c, Command) else Command(c) for c in commands), timeout)


@dataclass
class Bench:
    """A runner and a host that it reaches.

    ``say`` makes a command of that host, ``wait`` one that takes so many seconds; ``echo`` repeats its stdin.
    """

    runner: Runner
    host: Host
    real: bool = True
    say: Callable[..., tuple[str, ...]] = say
    wait: Callable[[float], tuple[str, ...]] = lambda seconds: ("sleep", str(seconds))
    echo: tuple[str, ...] = ("cat",)
    after: Callable[[], Awaitable[None]] | None = None  # ends what reached the host

    async def run(self, *commands: Command | tuple[str, ...], timeout: float = 10.0) -> tuple[Result, ...]:
        return await self.runner.run(self.host, script(*commands, timeout=timeout))

    async def close(self) -> None:
        await self.runner.close()
        if self.after is not None:
            await self.after()


async def _local(request: pytest.FixtureRequest) -> Bench:
    return Bench(LocalRunner(), a_host("here"))


async def _ssh(request: pytest.FixtureRequest) -> Bench:
    server: Sshd = request.getfixturevalue("sshd")
    settings = SshSettings(key_file=str(server.key_file), known_hosts=str(server.known_hosts))
    return Bench(SshRunner(settings), a_host(server.manage))


async def _simulated(request: pytest.FixtureRequest) -> Bench:
    world = World()
    world.add("h1")
    world.programs["say"] = lambda machine, argv, stdin: Result(int(argv[3]), argv[1], argv[2])
    return Bench(
        SimulatedRunner(world), a_host("h1"), say=lambda out="", err="", status=0: ("say", out, err, str(status))
    )


async def _kube(request: pytest.FixtureRequest) -> Bench:
    server = ExecServer(request.getfixturevalue("tmp_path"))
    await server.start()
    runner = KubeRunner(KubernetesApi(server.kubeconfig), KubeSettings("gluster"))
    return Bench(runner, a_host("gluster-0"), after=server.stop)


async def _kubelet(request: pytest.FixtureRequest) -> Bench:
    cluster: Cluster = request.getfixturevalue("cluster")
    manage: str = request.getfixturevalue("host_pod")
    return Bench(KubeRunner(KubernetesApi(str(cluster.kubeconfig)), KubeSettings("default")), a_host(manage))


KINDS: dict[str, Callable[[pytest.FixtureRequest], Awaitable[Bench]]] = {
    "local": _local,
    "ssh": _ssh,
    "kube": _kube,
    "kubelet": _kubelet,
    "simulated": _simulated,
}
REAL = ("local", "ssh", "kube")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def host_pod(cluster: Cluster) -> Iterator[str]:
    """A pod on a real node that plays a Gluster host."""
    cluster.apply(pod("host-pod"))
    wait_until_ready(cluster, "host-pod")
    yield "host-pod"
    cluster.kubectl("delete", "pod", "host-pod", "--now")


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.cluster] * (kind == "kubelet")) for kind in KINDS])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = await KINDS[request.param](request)
    yield made
    await made.close()


@pytest.fixture(params=REAL)
async def real(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = await KINDS[request.param](request)
    yield made
    await made.close()


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


# --- on real machines -------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """A zombie is not: nobody says when it is reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pid_from(path: Path) -> int:
    while not (path.exists() and (text := path.read_text()).endswith("\n")):
        await asyncio.sleep(0.01)
    return int(text)


def lasting(path: Path) -> tuple[str, ...]:
    """A command that writes down its process id and stays, with a child that does the same."""
    return ("sh", "-c", 'sleep 300 & echo $! >"$1.child"; echo $$ >"$1"; exec sleep 300', "sh", str(path))


async def gone(path: Path) -> bool:
    return not alive(await pid_from(path)) and not alive(await pid_from(path.with_name(path.name + ".child")))


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


async def test_a_shell_that_dies_says_so_and_another_takes_over(real: Bench) -> None:
    with pytest.raises(HostUnreachable, match="the shell ended"):
        await real.run(("sh", "-c", "kill -9 $PPID"))
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


# --- long-lived programs ----------------------------------------------------------------------


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

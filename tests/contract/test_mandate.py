"""What every Runner promises of terms: a host obeys one controller, the one of the highest term that it met.

What only a process of a host shows is marked ``only_real``: the simulated hosts have none that could be seen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from csi.core.errors import DriverError, HostUnreachable, Superseded
from csi.core.model import Host
from csi.hosts.kube import KubeRunner, KubeSettings
from csi.hosts.local import LocalRunner
from csi.hosts.mandate import Mandate, Mandated
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.hosts.ssh import SshRunner, SshSettings
from csi.kubernetes.client import KubernetesApi
from csi.ports import Channel, Runner
from tests.contract.exec_server import ExecServer
from tests.contract.runners.bench import a_host, script
from tests.contract.runners.processes import alive, gone, lasting, pid_from
from tests.contract.sshd import Sshd

Make = Callable[[Mandated], Runner]


class Controllers:
    """Runners of several controllers that reach one host. Its terms and sessions lie in the test's directory."""

    def __init__(self, make: Make, host: Host, directory: Path) -> None:
        self._make = make
        self._directory = directory
        self._made: list[Runner] = []
        self.host = host

    def __call__(self, term: int, holder: str = "", instance: str = "i") -> Runner:
        places = str(self._directory / "terms"), str(self._directory / "sessions")
        mandate = Mandate(instance, term, holder or f"holder-{term}", *places)
        self._made.append(self._make(lambda: mandate))
        return self._made[-1]

    async def true(self, runner: Runner) -> None:
        await runner.run(self.host, script(("true",)))

    @property
    def term(self) -> str:
        return (self._directory / "terms/i").read_text()

    @property
    def sessions(self) -> list[int]:
        """The process ids of all that were let in and are not known to be gone."""
        return [int(path.name) for path in (self._directory / "sessions/i").iterdir() if path.name.isdigit()]

    @property
    def lock(self) -> Path:
        return self._directory / "sessions/i/lock"

    async def close(self) -> None:
        await asyncio.gather(*(runner.close() for runner in self._made))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


async def _local(request: pytest.FixtureRequest) -> tuple[Make, str, Callable[[], Awaitable[None]] | None]:
    return lambda mandate: LocalRunner(mandate=mandate), "here", None


async def _ssh(request: pytest.FixtureRequest) -> tuple[Make, str, Callable[[], Awaitable[None]] | None]:
    server: Sshd = request.getfixturevalue("sshd")
    settings = SshSettings(key_file=str(server.key_file), known_hosts=str(server.known_hosts))
    return lambda mandate: SshRunner(settings, mandate), server.manage, None


async def _kube(request: pytest.FixtureRequest) -> tuple[Make, str, Callable[[], Awaitable[None]] | None]:
    server = ExecServer(request.getfixturevalue("tmp_path"))
    await server.start()
    settings = KubeSettings("gluster")
    return (
        lambda mandate: KubeRunner(KubernetesApi(server.kubeconfig), settings, mandate),
        "gluster-0",
        server.stop,
    )


async def _simulated(request: pytest.FixtureRequest) -> tuple[Make, str, Callable[[], Awaitable[None]] | None]:
    world = World()
    world.add("h1")
    return lambda mandate: SimulatedRunner(world, mandate), "h1", None


KINDS = {"local": _local, "ssh": _ssh, "kube": _kube, "simulated": _simulated}
REAL = ("local", "ssh", "kube")


@pytest.fixture(params=KINDS)
async def controllers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Controllers]:
    make, manage, stop = await KINDS[request.param](request)
    made = Controllers(make, a_host(manage), tmp_path)
    yield made
    await made.close()
    if stop is not None:
        await stop()


only_real = pytest.mark.parametrize("controllers", REAL, indirect=True)


# --- who is let in ----------------------------------------------------------------------------


async def test_a_lower_term_is_refused_with_the_remedy(controllers: Controllers) -> None:
    old, new = controllers(3), controllers(4)
    await controllers.true(new)
    for act in (old.run(controllers.host, script(("true",))), old.open(controllers.host, ("cat",))):
        with pytest.raises(Superseded, match=r"of term 4, and this one has term 3.* set hosts\.term to 5") as caught:
            await act
        assert caught.value.term == 4
    await controllers.true(new)


async def test_a_higher_term_is_let_in(controllers: Controllers) -> None:
    for term in (1, 2, 7):
        await controllers.true(controllers(term))


async def test_another_holder_of_the_term_is_refused(controllers: Controllers) -> None:
    """A Lease that was deleted begins to count anew."""
    await controllers.true(controllers(3, "first"))
    with pytest.raises(Superseded) as caught:
        await controllers.true(controllers(3, "second"))
    assert caught.value.term == 3


async def test_the_same_term_again_is_let_in_and_ends_nothing(controllers: Controllers) -> None:
    first, second = controllers(3), controllers(3)
    channel = await first.open(controllers.host, ("cat",))
    await asyncio.gather(*(controllers.true(runner) for runner in (first, second) for _ in range(8)))
    await channel.write(b"still here;")
    assert await channel.read_until(b";", 5) == b"still here;"
    await channel.close()


async def test_no_term_is_let_in_where_there_never_was_one(controllers: Controllers, tmp_path: Path) -> None:
    await controllers.true(controllers(0))
    assert not (tmp_path / "terms").exists()
    assert not (tmp_path / "sessions").exists()


async def test_no_term_is_refused_where_there_was_one(controllers: Controllers) -> None:
    await controllers.true(controllers(1))
    with pytest.raises(Superseded, match=r"set hosts\.term to 2"):
        await controllers.true(controllers(0))


async def test_instances_have_terms_of_their_own(controllers: Controllers) -> None:
    await controllers.true(controllers(7))
    other = controllers(3, instance="j")
    await controllers.true(other)


async def test_a_program_of_a_lower_term_has_ended(controllers: Controllers) -> None:
    old, new = controllers(3), controllers(4)
    channel = await old.open(controllers.host, ("cat",))
    await controllers.true(new)
    with pytest.raises(HostUnreachable):
        await asks(channel)


async def test_of_two_that_race_the_higher_one_is_obeyed(controllers: Controllers) -> None:
    """Whichever comes first: at the end the lower one is out, and the higher one was never disturbed."""
    runners = {term: controllers(term) for term in (5, 6)}

    async def act(term: int) -> int:
        done = 0
        for _ in range(10):
            try:
                await controllers.true(runners[term])
                done += 1
            except HostUnreachable:
                assert term == 5
        return done

    _, higher = await asyncio.gather(act(5), act(6))
    assert higher == 10
    # A session that was idle when it was ended is asked once more in vain.
    with pytest.raises(HostUnreachable):
        await controllers.true(runners[5])
    with pytest.raises(Superseded):
        await controllers.true(runners[5])


# --- what runs there --------------------------------------------------------------------------


async def goes_on(group: int, times: int = 100) -> None:
    """Let it, if it is there; who has ended may stay as a zombie for a moment."""
    with suppress(ProcessLookupError):
        for _ in range(times):
            os.killpg(group, signal.SIGCONT)
            await asyncio.sleep(0.01)


async def asks(channel: Channel) -> bytes:
    await channel.write(b"late;")
    return await channel.read_until(b";", 5)


async def refused(task: asyncio.Task[object]) -> None:
    with pytest.raises(DriverError):
        await task


@only_real
async def test_what_a_lower_term_runs_is_ended_before_the_higher_one_acts(
    controllers: Controllers, tmp_path: Path
) -> None:
    old, new = controllers(3), controllers(4)
    late = tmp_path / "late"
    task = asyncio.ensure_future(old.run(controllers.host, script(lasting(tmp_path / "pid"), ("touch", str(late)))))
    await pid_from(tmp_path / "pid")
    await pid_from(tmp_path / "pid.child")
    await controllers.true(new)
    assert await gone(tmp_path / "pid")
    await refused(task)
    assert not late.exists()


async def paused_in_mid_script(
    controllers: Controllers, runner: Runner, go: Path, late: Path
) -> tuple[asyncio.Task[object], int]:
    """A script that waits for ``go``, then touches ``late``; its process group is stopped, as a paused machine's."""
    said = go.with_name("pid")
    wait = ("sh", "-c", 'echo $$ >"$1"; until [ -e "$2" ]; do sleep 0.02; done', "sh", str(said), str(go))
    task: asyncio.Task[object] = asyncio.ensure_future(runner.run(controllers.host, script(wait, ("touch", str(late)))))
    group = os.getpgid(await pid_from(said))
    os.killpg(group, signal.SIGSTOP)
    return task, group


@only_real
async def test_a_session_that_was_paused_in_mid_script_does_nothing_more(
    controllers: Controllers, tmp_path: Path
) -> None:
    """It goes on when the new controller has looked already."""
    go, late = tmp_path / "go", tmp_path / "late"
    task, group = await paused_in_mid_script(controllers, controllers(3), go, late)
    await controllers.true(controllers(4))
    go.touch()
    await goes_on(group)
    await refused(task)
    assert not late.exists()


@only_real
async def test_without_terms_the_paused_session_would_go_on(controllers: Controllers, tmp_path: Path) -> None:
    """That the test before can fail."""
    go, late = tmp_path / "go", tmp_path / "late"
    task, group = await paused_in_mid_script(controllers, controllers(0), go, late)
    await controllers.true(controllers(0))
    go.touch()
    await goes_on(group, 1)
    await task
    assert late.exists()


@only_real
async def test_idle_sessions_of_a_lower_term_are_ended_too(controllers: Controllers) -> None:
    old, new = controllers(3), controllers(4)
    await asyncio.gather(*(old.run(controllers.host, script(("sleep", "0.3"))) for _ in range(3)))
    idle = controllers.sessions
    assert len(idle) == 3
    await controllers.true(new)
    assert [pid for pid in idle if alive(pid)] == []
    assert not set(idle) & set(controllers.sessions)


@only_real
async def test_a_number_that_is_used_again_is_not_taken_for_the_old_session(
    controllers: Controllers, tmp_path: Path
) -> None:
    await controllers.true(controllers(3))
    bystander = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
    try:
        start, boot, term = (tmp_path / f"sessions/i/{controllers.sessions[0]}").read_text().split()
        (tmp_path / f"sessions/i/{bystander.pid}").write_text(f"{int(start) - 1} {boot} {term}\n")
        await controllers.true(controllers(4))
        assert alive(bystander.pid)
        assert bystander.pid not in controllers.sessions
    finally:
        bystander.kill()
        await bystander.wait()


@only_real
async def test_a_takeover_that_was_ended_in_its_middle_is_finished_by_the_next_session(
    controllers: Controllers, tmp_path: Path
) -> None:
    """The term is raised, and what is lower still runs."""
    old, new = controllers(3), controllers(4)
    task = asyncio.ensure_future(old.run(controllers.host, script(lasting(tmp_path / "pid"))))
    await pid_from(tmp_path / "pid.child")
    (tmp_path / "terms/i").write_text("4 holder-4\n")
    await controllers.true(new)
    assert await gone(tmp_path / "pid")
    await refused(task)


@only_real
async def test_a_term_that_was_never_written_to_its_end_is_written_again(
    controllers: Controllers, tmp_path: Path
) -> None:
    await controllers.true(controllers(3))
    (tmp_path / "terms/i.part").write_text("4 hol")
    await controllers.true(controllers(4))
    assert controllers.term == "4 holder-4\n"


@only_real
async def test_one_that_is_paused_with_the_lock_in_hand_is_ended(controllers: Controllers, tmp_path: Path) -> None:
    await controllers.true(controllers(3))
    holding = (
        "sh",
        "-c",
        'exec 9>"$2"; flock 9; echo $$ >"$1"; sleep 300',
        "sh",
        str(tmp_path / "pid"),
        str(controllers.lock),
    )
    task = asyncio.ensure_future(controllers(3).run(controllers.host, script(holding)))
    os.killpg(os.getpgid(await pid_from(tmp_path / "pid")), signal.SIGSTOP)
    began = time.monotonic()
    await controllers.true(controllers(4))
    assert time.monotonic() - began < 30
    await refused(task)


@only_real
async def test_sessions_that_ended_by_themselves_are_forgotten(controllers: Controllers) -> None:
    for _ in range(3):
        runner = controllers(3)
        await controllers.true(runner)
        await runner.close()
    while any(alive(pid) for pid in controllers.sessions):
        await asyncio.sleep(0.01)
    await controllers.true(controllers(3))
    assert len(controllers.sessions) == 1

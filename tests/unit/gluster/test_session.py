"""Sessions that say something odd, nothing, or too late; over a host that is scripted word for word."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

import pytest

from csi.core.command import Result, Script
from csi.core.errors import CommandTimeout, GlusterFailed, HostUnreachable, Unavailable
from csi.core.model import ClusterId, Host, HostId
from csi.gluster.asking import Asker
from csi.gluster.envelope import Meaning
from csi.gluster.session import ARGV
from csi.ports import Channel, Pool

CLUSTER = ClusterId("c")
ONE, TWO = (Host(HostId(name), CLUSTER, name, f"{name}.storage", 1) for name in ("one", "two"))
POOL = Pool((ONE, TWO))
WELCOME = "Welcome to gluster prompt, type 'help' to see the available commands.\n"
GONE = "Connection failed. Please check if gluster daemon is operational.\n"


def answered(text: str = "", code: int = 0, errno: int = 0) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<cliOutput>\n'
        f"  <opRet>{code}</opRet>\n  <opErrno>{errno}</opErrno>\n  <opErrstr>{text}</opErrstr>\n</cliOutput>\n"
    )


class Clock:
    """Time passes when somebody waits."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class Answers:
    """``Heard``: all hosts answered then, and never before."""

    def __init__(self) -> None:
        self.when = 0.0

    def answered(self, host: HostId) -> float:
        return self.when

    heard = answered


class Scripted:
    """A runner whose sessions say what stands in ``says``, per host and in order; an exception is raised.

    What is said without an end of an answer is said by a program that ends with it.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.says: dict[str, deque[str | Exception]] = {}
        self.alone: dict[str, deque[str | Exception]] = {}
        self.opened: list[ScriptedChannel] = []
        self.heard: list[tuple[str, str]] = []
        self.processes: list[tuple[str, str]] = []
        self.away: set[str] = set()

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        if host.manage in self.away:
            raise HostUnreachable(host.manage, "no route to host")
        (command,) = script.commands
        if command.argv == ("true",):
            return (Result(0),)
        assert command.argv[:3] == ARGV
        self.processes.append((host.manage, " ".join(command.argv[3:])))
        said = self.alone[host.manage].popleft()
        if isinstance(said, Exception):
            raise said
        return (Result(0 if "<?xml" in said or said == DONE else 1, said),)

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        if host.manage in self.away:
            raise HostUnreachable(host.manage, "no route to host")
        assert tuple(argv) == ARGV
        channel = ScriptedChannel(self, host.manage)
        self.opened.append(channel)
        return channel

    async def close(self) -> None: ...


class ScriptedChannel:
    def __init__(self, runner: Scripted, host: str) -> None:
        self.runner = runner
        self.host = host
        self.closed = False
        self.asked = 0
        self.answers = 0
        self.gate: asyncio.Event | None = None

    async def write(self, data: bytes) -> None:
        assert not self.closed
        assert self.asked == self.answers, "two commands at once"
        if self.host in self.runner.away:
            raise HostUnreachable(self.host, "the connection was lost")
        self.asked += 1
        self.runner.heard.append((self.host, data.decode()))

    async def read_until(self, end: bytes, timeout: float, limit: int = 0) -> bytes:
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        said = self.runner.says[self.host].popleft()
        if isinstance(said, CommandTimeout):
            self.runner.clock.time += timeout
            raise said
        if isinstance(said, Exception):
            raise said
        self.answers += 1
        if end not in said.encode():
            raise HostUnreachable(self.host, f"gluster ended: {said}")
        return said.encode()

    async def close(self) -> None:
        self.closed = True


SILENCE = CommandTimeout("one", ARGV, 1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(clock: Clock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
def asker(runner: Scripted, clock: Clock) -> Asker:
    return Asker(runner, clock, sessions=2, patience=5.0)


async def test_a_session_is_used_again(asker: Asker, runner: Scripted) -> None:
    runner.says["one"] = deque([WELCOME + answered("a"), answered("b"), answered("c")])
    said = [(await asker.ask(ONE, ("volume", "list"), 9)).text for _ in range(3)]
    assert said == ["a", "b", "c"]
    assert len(runner.opened) == 1


async def test_no_more_sessions_than_set_and_one_command_in_each(asker: Asker, runner: Scripted) -> None:
    runner.says["one"] = deque(WELCOME + answered() if n < 2 else answered() for n in range(9))
    await asyncio.gather(*(asker.ask(ONE, ("volume", "list"), 9) for _ in range(9)))
    assert len(runner.opened) == 2


@pytest.mark.parametrize("before", ["volume create: x: success\n", answered("late"), "unrecognized word: x\n"])
async def test_what_stands_before_an_answer_ends_the_session(asker: Asker, runner: Scripted, before: str) -> None:
    """It may be the answer to the command before; then this one would be taken for that of the next."""
    runner.says["one"] = deque([WELCOME + answered("a"), before + answered("b"), WELCOME + answered("c")])
    await asker.ask(ONE, ("volume", "list"), 9)
    assert (await asker.ask(ONE, ("volume", "list"), 9)).text == "c"
    assert [channel.closed for channel in runner.opened] == [True, False]


async def test_an_old_session_that_ended_is_replaced(asker: Asker, runner: Scripted) -> None:
    runner.says["one"] = deque([WELCOME + answered("a"), HostUnreachable("one", "it ended"), WELCOME + answered("b")])
    await asker.ask(ONE, ("volume", "list"), 9)
    assert (await asker.ask(ONE, ("volume", "list"), 9)).text == "b"
    assert not runner.processes


async def test_a_command_that_ends_its_session_is_asked_alone(asker: Asker, runner: Scripted) -> None:
    """So that what the tool has to say is heard."""
    runner.says["one"] = deque([WELCOME + "unrecognized word: volumes (position 0)\n"])
    runner.alone["one"] = deque(["unrecognized word: volumes (position 0)\n"])
    answer = await asker.ask(ONE, ("volumes",), 9)
    assert answer.meaning is Meaning.REFUSED
    assert "unrecognized word" in str(answer.error())
    assert runner.opened[0].closed


ON = ("volume", "barrier", "v", "enable")
DONE = "volume barrier: command successful\n"


async def test_a_plain_answer(asker: Asker, runner: Scripted) -> None:
    """Its end is the answer to something else, which is asked for in the same breath."""
    runner.says["one"] = deque([WELCOME + DONE + answered(), DONE + answered(), answered("a")])
    for _ in range(2):
        assert (await asker.ask(ONE, ON, 9)).meaning is Meaning.DONE
    assert (await asker.ask(ONE, ("volume", "list"), 9)).text == "a"
    assert [line for _, line in runner.heard] == [*["volume barrier v enable\npeer status\n"] * 2, "volume list\n"]
    assert len(runner.opened) == 1


async def test_a_plain_refusal_ends_the_session(asker: Asker, runner: Scripted) -> None:
    refusal = "volume barrier: command unsuccessful : Failed to reconfigure barrier.\n"
    runner.says["one"] = deque([WELCOME + refusal])
    runner.alone["one"] = deque([refusal])
    answer = await asker.ask(ONE, ON, 9)
    assert (answer.meaning, answer.text) == (Meaning.REFUSED, refusal.strip())
    assert runner.opened[0].closed


@pytest.mark.parametrize("said", ["", "what is this?\n"])
async def test_a_plain_answer_that_is_none(asker: Asker, runner: Scripted, said: str) -> None:
    runner.says["one"] = deque([WELCOME + said + answered()])
    runner.alone["one"] = deque([DONE])
    assert (await asker.ask(ONE, ON, 9)).meaning is Meaning.DONE
    assert runner.opened[0].closed
    assert runner.processes == [("one", " ".join(ON))]


async def test_what_is_urgent_waits_for_nobody(asker: Asker, runner: Scripted) -> None:
    """Writers are held up until a barrier is off: not until the volumes of others have been made."""
    gate = asyncio.Event()
    runner.says["one"] = deque([WELCOME + answered()] * 2)
    runner.alone["one"] = deque([DONE])
    others = []
    for number in range(2):
        others.append(asyncio.create_task(asker.ask(ONE, ("volume", "list"), 9)))
        while len(runner.opened) <= number:
            await asyncio.sleep(0)
        runner.opened[number].gate = gate
    assert (await asker.ask(ONE, ON, 9, at_once=True)).meaning is Meaning.DONE
    assert not any(task.done() for task in others)
    gate.set()
    await asyncio.gather(*others)


async def test_a_process_that_says_nothing(asker: Asker, runner: Scripted) -> None:
    runner.alone["one"] = deque(["\n"])
    with pytest.raises(GlusterFailed, match="no answer to be understood"):
        await asker.ask(ONE, ("volume", "set", "v", "user.a", "two words"), 9)
    assert not runner.opened


async def test_a_slow_glusterd_is_waited_for(asker: Asker, runner: Scripted) -> None:
    runner.says["one"] = deque([SILENCE, SILENCE, WELCOME + answered("at last")])
    runner.alone["one"] = deque([answered(), CommandTimeout("one", ARGV, 1)])
    assert (await asker.ask(ONE, ("volume", "start", "v"), 60)).text == "at last"
    assert runner.processes == [("one", "peer status")] * 2
    assert not runner.opened[0].closed


async def test_no_glusterd_behind_a_silent_session(asker: Asker, runner: Scripted, clock: Clock) -> None:
    runner.says["one"] = deque([SILENCE])
    runner.alone["one"] = deque([GONE, GONE])
    with pytest.raises(HostUnreachable, match="glusterd does not run"):
        await asker.ask(ONE, ("volume", "start", "v"), 60)
    assert runner.opened[0].closed, "it would carry the command out when glusterd is back"
    assert clock.time < 1005


async def test_silence_to_the_end(asker: Asker, runner: Scripted, clock: Clock) -> None:
    runner.says["one"] = deque([SILENCE] * 99)
    runner.alone["one"] = deque([answered()] * 99)
    with pytest.raises(Unavailable, match="no answer within 60 s"):
        await asker.ask(ONE, ("volume", "start", "v"), 60)
    assert clock.time - 1000 == 60
    assert runner.opened[0].closed


async def test_a_caller_who_goes_away_leaves_no_session_behind(asker: Asker, runner: Scripted) -> None:
    runner.says["one"] = deque([WELCOME + answered("theirs"), WELCOME + answered("mine")])
    task = asyncio.create_task(asker.ask(ONE, ("volume", "list"), 9))
    while not runner.opened:
        await asyncio.sleep(0)
    runner.opened[0].gate = asyncio.Event()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    runner.says["one"].popleft()
    assert (await asker.ask(ONE, ("volume", "list"), 9)).text == "mine"
    assert [channel.closed for channel in runner.opened] == [True, False]
    await asker.close()
    assert all(channel.closed for channel in runner.opened)


async def test_the_host_that_answered_goes_on_acting(asker: Asker, runner: Scripted) -> None:
    runner.away = {"one"}
    runner.says = {name: deque([WELCOME + answered(name), *[answered(name)] * 9]) for name in ("one", "two")}
    assert (await asker.first(POOL, ("volume", "list"), 9, changes=False)).host == "two"
    runner.away = set()
    assert (await asker.first(POOL, ("volume", "list"), 9, changes=True)).host == "two"
    runner.away = {"two"}
    assert (await asker.first(POOL, ("volume", "list"), 9, changes=False)).host == "one"


async def test_a_host_that_failed_acts_again_after_a_rest(runner: Scripted, clock: Clock) -> None:
    heard = Answers()
    asker = Asker(runner, clock, 2, 5.0, heard)
    runner.says = {name: deque([WELCOME + answered(name), *[answered(name)] * 9]) for name in ("one", "two")}
    runner.away = {"one"}

    async def first() -> str:
        return (await asker.first(POOL, ("volume", "list"), 9, changes=False)).host

    assert await first() == "two"
    runner.away = set()
    clock.time += 1
    heard.when = clock.time
    assert await first() == "two", "it has not rested"
    clock.time += 60
    assert await first() == "one"
    runner.away = {"one"}
    assert await first() == "two"
    runner.away = set()
    clock.time += 600
    assert await first() == "two", "nobody has heard of it since"
    await asker.close()


def test_volumes_are_shared_out_to_the_hosts_that_act(asker: Asker) -> None:
    hosts = tuple(replace(ONE, id=HostId(f"h{n}"), manage=f"h{n}") for n in range(5))
    orders = [[host.manage for host in asker.in_order(Pool(hosts), f"vol_{n}")] for n in range(60)]
    assert all(sorted(order) == ["h0", "h1", "h2", "h3", "h4"] for order in orders)
    turns = Counter(order[0] for order in orders)
    assert set(turns) == {"h0", "h1", "h2"}
    assert min(turns.values()) > 10
    assert all(asker.in_order(Pool(hosts), "vol_1") == asker.in_order(Pool(hosts), "vol_1") for _ in range(3))
    assert asker.in_order(Pool(hosts)) == list(hosts), "what is about no volume goes through the first"
    assert asker.in_order(Pool(()), "vol_1") == []


async def test_a_silent_query_is_tried_elsewhere_and_a_silent_change_is_not(asker: Asker, runner: Scripted) -> None:
    runner.alone = {"one": deque(["Error : Request timed out\n"] * 2), "two": deque([answered("two")])}
    words = ("volume", "set", "v", "user.a", "two words")
    with pytest.raises(Unavailable, match="Request timed out"):
        await asker.first(POOL, words, 9, changes=True)
    assert (await asker.first(POOL, words, 9, changes=False)).text == "two"
    assert asker.in_order(POOL, "v") == [TWO, ONE], "and nobody waits for it again soon"


async def test_a_lock_is_waited_for_and_given_up(asker: Asker, runner: Scripted, clock: Clock) -> None:
    locked = answered("Another transaction is in progress for v.", -1, 30802)
    runner.says["one"] = deque([WELCOME + locked, *[locked] * 4, answered("done"), *[locked] * 999])
    assert (await asker.change(POOL, ("volume", "stop", "v"), 9)).text == "done"
    begun = clock.time
    assert (await asker.change(POOL, ("volume", "stop", "v"), 9)).meaning is Meaning.LOCKED
    assert 5.0 < clock.time - begun < 7.0


def peers(*connected: str) -> str:
    body = "".join(
        f"<peer><uuid>u</uuid><hostname>{host.storage}</hostname><hostnames><hostname>{host.storage}</hostname>"
        f"</hostnames><connected>{int(host.manage in connected)}</connected><state>3</state></peer>"
        for host in (TWO,)
    )
    return answered().replace("</cliOutput>", f"<peerStatus>{body}</peerStatus></cliOutput>")


async def test_nothing_is_changed_while_a_host_has_vanished_unnoticed(asker: Asker, runner: Scripted) -> None:
    runner.away = {"two"}
    runner.says["one"] = deque([WELCOME + peers("two"), peers(), answered("done")])
    with pytest.raises(Unavailable, match="host two does not answer"):
        await asker.change(POOL, ("volume", "stop", "v"), 9)
    assert [line for _, line in runner.heard] == ["peer status\n"]
    # Once it is noticed, what needs that host is refused by glusterd, and the rest goes on.
    assert (await asker.change(POOL, ("volume", "stop", "v"), 9)).text == "done"


async def test_a_host_that_only_we_do_not_reach(asker: Asker, runner: Scripted, clock: Clock) -> None:
    runner.away = {"two"}
    runner.says["one"] = deque([WELCOME + peers("two"), answered("done"), answered("done"), peers("two")])
    with pytest.raises(Unavailable):
        await asker.change(POOL, ("volume", "stop", "v"), 9)
    clock.time += 61
    assert (await asker.change(POOL, ("volume", "stop", "v"), 9)).text == "done"
    runner.away = set()
    clock.time += 2
    assert (await asker.change(POOL, ("volume", "stop", "v"), 9)).text == "done"
    runner.away = {"two"}
    clock.time += 2
    with pytest.raises(Unavailable):  # it is silent anew
        await asker.change(POOL, ("volume", "stop", "v"), 9)

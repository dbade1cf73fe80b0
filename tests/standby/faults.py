"""A leader over real GlusterFS hosts is harmed in the middle of a creation; then hosts and records are looked at.

The two controllers of a pair take turns: the one that was harmed begins anew as the standby of the next trial.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from csi.core.model import Operation, Volume
from csi.kubernetes.client import KubernetesApi
from csi.store.kube import snapshot
from csi.store.kube.kinds import KINDS
from tests.driver import patiently
from tests.lab import Lab, LabHost
from tests.lab.leftovers import Traces
from tests.lab.system import alive, command_line, host_processes
from tests.standby.controllers import Controller

SETTLE = 6.0  # seconds that glusterd gets here; nothing hangs in this laboratory
GRACE = 3.0

CONTROLLER = ("-m", "csi", "controller", "--config")

HARMS = ("killed", "paused", "cut off")
POINTS = ("line", "tag", "image", "mounted", "created", "started")

_CLEARED = 5.0  # seconds
_LINGERING = 20.0  # seconds that tell what is slow from what stays

_IMAGE = re.compile(r"([0-9a-f]{32})\.img")


@dataclass(frozen=True, slots=True)
class Case:
    """``again``: the caller asks the next leader for the same; otherwise nobody does until all of it is undone."""

    harm: str
    point: str
    again: bool
    pause: float = 60.0  # seconds, where it is paused

    def __str__(self) -> str:
        return f"{self.harm} at {self.point!r}, {'asked again' if self.again else 'left alone'}"


@dataclass(slots=True)
class Outcome:
    case: Case
    problems: list[str] = field(default_factory=list)
    takeover: float = 0.0  # seconds from the harm until the standby acts
    open: int = 0  # operations that the harmed leader left
    slow: list[str] = field(default_factory=list)  # what went by itself, but later than anything should
    ended: int = 0  # sessions of it that the hosts had, and that were ended by its successor


def matrix(times: int, pause: float = 60.0) -> Iterator[Case]:
    """Every harm at every point, every third time left alone; then again from the beginning."""
    plain = itertools.cycle(itertools.product(POINTS, HARMS))
    for number, (point, harm) in enumerate(itertools.islice(plain, times)):
        # Of each three, which are one of each harm, another one.
        yield Case(harm, point, number % 3 != number // 3 % 3, pause)


class LabPair:
    """A laboratory, and two controllers of it."""

    def __init__(self, lab: Lab, directory: Path, kubeconfig: str, command: Sequence[str] = CONTROLLER) -> None:
        self.lab = lab
        self._kubeconfig = kubeconfig
        topology = directory / "topology.json"
        topology.write_text(json.dumps(lab.topology()))
        tables = {
            "instance": "lab",
            "hosts": {"runner": "ssh"},
            "ssh": {
                "port": 2222,
                "key_file": str(lab.key_file),
                "known_hosts": str(lab.known_hosts),
                "keepalive_interval": 1.0,
            },
            "topology": {"file": str(topology)},
            "recovery": {"grace": GRACE, "settle": SETTLE, "interval": 0.5, "first": 0.5, "longest": 2.0},
        }
        words = [sys.executable, *command]
        self.leader, self.standby = (Controller(name, directory, kubeconfig, words, tables) for name in ("a", "b"))

    async def start(self) -> None:
        await self.leader.start()
        await self.leader.becomes(True)
        await self.standby.start()
        await self.standby.becomes(False)

    async def stop(self) -> None:
        await self.leader.stop()
        await self.standby.stop()

    # --- what is there ------------------------------------------------------------------------

    async def records(self) -> tuple[list[Volume], list[Operation]]:
        api = KubernetesApi(self._kubeconfig)
        try:
            found = (await snapshot.load(api)).records
        finally:
            await api.close()
        return [r for r in found if isinstance(r, Volume)], [r for r in found if isinstance(r, Operation)]

    async def settled_records(self) -> tuple[list[Volume], list[Operation]]:
        """As soon as no operation is left: of one that is done the caller is told before its record is removed."""
        deadline = time.monotonic() + _CLEARED
        while True:
            volumes, operations = await self.records()
            if not operations or time.monotonic() > deadline:
                return volumes, operations
            await asyncio.sleep(0.05)

    async def line_written(self, attempting: asyncio.Task[None]) -> None:
        """Until an operation is in the records, or the attempt is over."""
        path = next(kind.path for kind in KINDS if kind.record is Operation)
        api = KubernetesApi(self._kubeconfig)
        try:
            while not (attempting.done() or json.loads((await api.request("GET", path)).body)["items"]):
                await asyncio.sleep(0.001)
        finally:
            await api.close()

    async def term(self) -> int:
        api = KubernetesApi(self._kubeconfig)
        try:
            path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/gluster-csi-controller"
            return int(json.loads((await api.request("GET", path)).body)["spec"]["leaseTransitions"])
        finally:
            await api.close()

    def traces(self) -> list[tuple[LabHost, Traces]]:
        return [(host, Traces(host, self.lab.init_pid(host))) for host in self.lab.hosts]

    def files(self, pattern: str) -> list[Path]:
        """On the devices of all hosts."""
        return [
            path
            for host, traces in self.traces()
            for device in host.devices
            for path in traces.inside(device).glob(pattern)
        ]

    def has_reached(self, point: str) -> bool:
        match point:
            case "tag":
                return any(path.name[0] != "." for path in self.files("*.json"))
            case "image":
                return any(self.files("*.img"))
            case "mounted":
                return any(
                    mount.target.startswith("/var/lib/gluster-csi/") for _, t in self.traces() for mount in t.mounts()
                )
            case "created":
                return any(traces.volumes() for _, traces in self.traces())
            case "started":
                return any(any(t.inside("/run/gluster/vols").glob("*/*.pid")) for _, t in self.traces())
        return True

    def sessions(self) -> dict[int, int]:
        """Of all hosts: the live sessions of controllers, as process ids of this machine, with their terms.

        Found by what they run, so one that no host has written down is seen too: as of term -1.
        """
        found = {}
        for _, traces in self.traces():
            written = {}
            for entry in traces.inside("/run/gluster-csi.sessions/lab").glob("[0-9]*"):
                with suppress(FileNotFoundError, ValueError):
                    written[int(entry.name)] = int(entry.read_text().split()[2])
            for pid in host_processes(traces.init):
                if command_line(pid)[:1] in (["/bin/sh"], ["gluster"]) and alive(pid):
                    found[pid] = written.get(_pid_inside(pid), -1)
        return found


def _pid_inside(pid: int) -> int:
    """The number that the process has on its host."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return 0


async def until(what: str, reached: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(reached):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.001)


async def run(pair: LabPair, case: Case, name: str) -> Outcome:
    """One trial. The pool is empty before it and after it; what is wrong is in the outcome."""
    outcome = Outcome(case)
    before = await asyncio.to_thread(pair.sessions)
    attempting = await _in_the_middle(pair, case, name)
    harmed = time.monotonic()
    _, operations = await pair.records()
    outcome.open = len(operations)
    await pair.standby.becomes(True)
    outcome.takeover = time.monotonic() - harmed
    if case.again:
        await asyncio.to_thread(create, pair.standby, name)
        outcome.problems += await once(pair)
    else:
        outcome.problems += await _undone_or_made(pair)
    outcome.ended = sum(not alive(pid) for pid in before)
    term = await pair.term()
    outcome.problems += _of_one_term(pair, term)
    if case.harm == "paused":
        await asyncio.sleep(max(0.0, case.pause - (time.monotonic() - harmed)))
        pair.leader.send(signal.SIGCONT)
    status = await pair.leader.ended()
    if status != (-signal.SIGKILL if case.harm == "killed" else 1):
        outcome.problems.append(f"the harmed leader ended with {status}")
    await attempting
    pair.leader, pair.standby = pair.standby, pair.leader
    await pair.standby.start()
    await pair.standby.becomes(False)
    # What it did when it came back, or what was on its way from it, would be seen now.
    await asyncio.to_thread(create, pair.leader, name)
    outcome.problems += [f"at the end: {problem}" for problem in (*await once(pair), *_of_one_term(pair, term))]
    await asyncio.to_thread(_delete, pair.leader, name)
    volumes, operations = await pair.settled_records()
    at_first = pair.lab.leftovers(2.0)
    left = pair.lab.leftovers(_LINGERING) if at_first else []
    outcome.slow = [what for what in at_first if what not in left]
    left += [f"record {volume.id}" for volume in volumes] + [f"record {operation.id}" for operation in operations]
    outcome.problems += [f"after the deletion: {what}" for what in left]
    return outcome


async def _in_the_middle(pair: LabPair, case: Case, name: str) -> asyncio.Task[None]:
    """The leader is at the point, and harmed there. A creation that was faster than we look is made anew."""
    for _ in range(5):
        attempting = asyncio.create_task(asyncio.to_thread(attempt, pair.leader, name))
        if case.point == "line":
            await pair.line_written(attempting)
        await until(case.point, lambda: attempting.done() or pair.has_reached(case.point), 30)  # noqa: B023
        if not attempting.done():
            harm(pair.leader, case.harm)
            return attempting
        await asyncio.to_thread(_delete, pair.leader, name)
    raise TimeoutError(f"each creation was over before it was seen to be {case.point!r}")


def attempt(controller: Controller, name: str) -> None:
    """As a sidecar does whose controller is about to go."""
    with suppress(grpc.RpcError), controller.client() as client:
        client.create(name, timeout=20)


def create(controller: Controller, name: str) -> str:
    with controller.client() as client:
        return patiently(lambda: client.create(name).volume_id, 90)


def _delete(controller: Controller, name: str) -> None:
    with controller.client() as client:
        volume = patiently(lambda: client.create(name).volume_id, 90)
        patiently(lambda: client.delete(volume), 90)


def harm(controller: Controller, harm: str) -> None:
    match harm:
        case "killed":
            controller.send(signal.SIGKILL)
        case "paused":
            controller.send(signal.SIGSTOP)
        case "cut off":
            controller.link.cut()


async def once(pair: LabPair) -> list[str]:
    """One volume in the records, in glusterd and on the disks, and the same one; nothing under way."""
    volumes, operations = await pair.settled_records()
    problems = [f"operation {o.kind} {o.direction} is open: {o.error}" for o in operations]
    if len(volumes) != 1:
        return [*problems, f"{len(volumes)} volumes in the records"]
    in_records = sorted(brick.id for brick in volumes[0].bricks)
    images = sorted(found[1] for path in pair.files("*.img") if (found := _IMAGE.fullmatch(path.name)))
    if images != in_records:
        problems.append(f"images {images} on the hosts, bricks {in_records} in the records")
    for host, traces in pair.traces():
        if traces.volumes() != [volumes[0].gluster_name]:
            problems.append(f"glusterd of {host.name} has {traces.volumes()}")
        bricks = [what for _, what in traces.processes() if what.startswith("brick process")]
        if len(bricks) != 1:
            problems.append(f"{host.name} runs {len(bricks)} bricks")
        problems += [f"{host.name}: {what}" for _, what in traces.processes() if what.startswith("orphaned")]
    return problems


async def _undone_or_made(pair: LabPair) -> list[str]:
    """Nobody asks again: what was not made before the harm goes, and stays away."""
    deadline = time.monotonic() + 60
    while True:
        volumes, operations = await pair.records()
        if not operations:
            break
        if time.monotonic() > deadline:
            return [f"not undone: {o.direction} {o.error}" for o in operations]
        await asyncio.sleep(0.2)
    if volumes:  # it was done before the harm
        return await once(pair)
    return [f"after it was undone: {what}" for what in pair.lab.leftovers()]


def _of_one_term(pair: LabPair, term: int) -> list[str]:
    """No host runs anything of a term that is over."""
    old = {pid: of for pid, of in pair.sessions().items() if of != term}
    problems = [f"a session of term {of} is alive under term {term}: {command_line(pid)}" for pid, of in old.items()]
    obeyed = {host.name: t.inside("/var/lib/gluster-csi/terms/lab").read_text().split()[0] for host, t in pair.traces()}
    return problems + [f"{name} obeys term {of}, not {term}" for name, of in obeyed.items() if int(of) != term]

"""Two controllers over real GlusterFS hosts: `make faults` in small, and what only hosts can show."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from csi.core.model import Direction, Volume
from csi.core.naming import host_id
from csi.kubernetes.client import KubernetesApi
from tests.custom_resources import forget_lease, wipe
from tests.driver import patiently
from tests.lab import Lab
from tests.lab.daemons import GLUSTER
from tests.lab.system import alive
from tests.standby.controllers import Controller
from tests.standby.faults import CONTROLLER, HARMS, POINTS, Case, LabPair, attempt, create, matrix, once, run, until

pytestmark = [pytest.mark.lab, pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def command() -> tuple[str, ...]:
    """How a controller is started."""
    return CONTROLLER


@pytest.fixture
async def pair(
    clean_lab: Lab, custom_resources: str, tmp_path: Path, command: tuple[str, ...]
) -> AsyncIterator[LabPair]:
    await wipe(custom_resources)
    await forget_lease(custom_resources)
    for host in clean_lab.hosts:  # they would hold the Lease for one that was deleted, as it was
        clean_lab.run(host, ["rm", "-rf", "/var/lib/gluster-csi/terms", "/run/gluster-csi.sessions"])
    pair = LabPair(clean_lab, tmp_path, custom_resources, command)
    try:
        await pair.start()
        yield pair
    finally:
        await pair.stop()


async def delete(controller: Controller, volume: str) -> None:
    with controller.client() as client:
        await asyncio.to_thread(patiently, lambda: client.delete(volume), 90)


def test_the_matrix_has_each_harm_at_each_point_both_asked_again_and_left_alone() -> None:
    cases = list(matrix(20))
    assert {(case.harm, case.point) for case in cases} == {(harm, point) for harm in HARMS for point in POINTS}
    assert {(case.harm, case.again) for case in cases} == {(harm, again) for harm in HARMS for again in (True, False)}


@pytest.mark.parametrize(
    "case",
    [
        Case("killed", "image", again=False),
        Case("paused", "tag", again=True, pause=15),
        Case("cut off", "created", again=True),
    ],
    ids=str,
)
async def test_a_creation_is_finished_or_undone_once(pair: LabPair, case: Case) -> None:
    outcome = await run(pair, case, "pvc-x")
    assert outcome.problems == []


async def pause_all(pair: LabPair) -> list[int]:
    """The leader in mid-creation and all that it runs on the hosts stand still. Its sessions there."""
    await until("a tag", lambda: pair.has_reached("tag"), 20)
    pair.leader.send(signal.SIGSTOP)
    found = pair.sessions()
    signal_groups(found, signal.SIGSTOP)
    # A shell forks itself for each command: such a one may have ended before the signal came.
    await until("standstill", lambda: all(state(pid) in "TZX" for pid in found), 10)
    paused = [pid for pid in found if state(pid) == "T"]
    assert paused
    return paused


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def signal_groups(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(pid), number)


async def test_sessions_that_are_paused_with_their_leader_do_nothing_more(pair: LabPair) -> None:
    """They would go on after the next leader has looked."""
    attempting = asyncio.create_task(asyncio.to_thread(attempt, pair.leader, "pvc-x"))
    paused = await pause_all(pair)
    await pair.standby.becomes(True)
    volume = await asyncio.to_thread(create, pair.standby, "pvc-x")
    assert [pid for pid in paused if alive(pid)] == []
    pair.leader.send(signal.SIGCONT)
    assert await pair.leader.ended() == 1
    await attempting
    assert await once(pair) == []
    await delete(pair.standby, volume)


@pytest.mark.parametrize("command", [("-m", "tests.standby.unfenced")])
async def test_without_terms_paused_sessions_would_go_on(pair: LabPair) -> None:
    """That the test before can fail."""
    attempting = asyncio.create_task(asyncio.to_thread(attempt, pair.leader, "pvc-x"))
    paused = await pause_all(pair)
    await pair.standby.becomes(True)
    volume = await asyncio.to_thread(create, pair.standby, "pvc-x")
    assert [pid for pid in paused if not alive(pid)] == []
    signal_groups(paused, signal.SIGCONT)
    pair.leader.send(signal.SIGCONT)
    assert await pair.leader.ended() == 1
    await attempting
    await until("the end of its sessions", lambda: not any(map(alive, paused)), 20)
    await delete(pair.standby, volume)


async def test_a_volume_that_glusterd_makes_late_is_undone_and_told(pair: LabPair, custom_resources: str) -> None:
    attempting = asyncio.create_task(asyncio.to_thread(attempt, pair.leader, "pvc-x"))
    await until("a tag", lambda: pair.has_reached("tag"), 20)
    pair.leader.send(signal.SIGKILL)
    await pair.standby.becomes(True)
    await until("undoing", lambda: "looked at once more" in pair.standby.log.read_text(), 40)
    _, (operation,) = await pair.records()
    assert operation.direction is Direction.BACK
    assert pair.lab.leftovers() == []
    lands_late(pair.lab, operation.volume)
    assert pair.lab.leftovers(patience=0) != []
    deadline = asyncio.get_running_loop().time() + 40
    while (await pair.records())[1]:
        assert asyncio.get_running_loop().time() < deadline, pair.standby.log.read_text()
        await asyncio.sleep(0.2)
    assert pair.lab.leftovers() == []
    assert "late effect" in pair.standby.log.read_text()
    api = KubernetesApi(custom_resources)
    events = json.loads((await api.request("GET", "/api/v1/namespaces/default/events")).body)["items"]
    await api.close()
    (event,) = [e for e in events if e["reason"] == "LateEffect"]
    assert operation.volume.gluster_name in event["message"]
    assert event["involvedObject"]["kind"] == "Lease"
    await attempting


def lands_late(lab: Lab, volume: Volume) -> None:
    """What a creation leaves that glusterd had passed before its bricks went: a volume of bricks that are not there."""
    hosts = {host_id(host.address): host for host in lab.hosts}
    bricks = [(hosts[brick.host_id], brick.path) for brick in volume.bricks]
    for host, path in bricks:
        lab.run(host, ["mkdir", "-p", path])
    words = [f"{host.address}:{path}" for host, path in bricks]
    # Forced, since these directories lie on the root disk.
    lab.run(lab.hosts[0], [*GLUSTER, "volume", "create", volume.gluster_name, "replica", "3", *words, "force"])
    for host, path in bricks:
        lab.run(host, ["rm", "-rf", str(Path(path).parent)])


async def test_a_lease_that_was_deleted_locks_nobody_out(pair: LabPair, custom_resources: str) -> None:
    """Its terms begin at 1 again, which the hosts know as another's: one controller ends for that, then all is well."""
    volume = await asyncio.to_thread(create, pair.leader, "pvc-x")
    await forget_lease(custom_resources)
    assert await pair.leader.ended() == 1
    assert await pair.standby.ended() == 1
    assert "hosts obey another controller" in pair.standby.log.read_text()
    await pair.leader.start()  # as Kubernetes does
    await pair.leader.becomes(True)
    assert await pair.term() == 2
    assert await asyncio.to_thread(create, pair.leader, "pvc-x") == volume
    await delete(pair.leader, volume)

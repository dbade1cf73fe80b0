"""Who leads, and for how long it may believe so."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from csi.core.errors import Superseded, Unavailable
from csi.hosts.gate import Gate
from csi.kubernetes.lease import Lease, LeaseTiming
from tests.api_double import ApiDouble, Server

TIMING = LeaseTiming(lease=15.0, renew=10.0, retry=0.001)


@dataclass
class Hands:
    """Of a clock that only the test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """Two controllers and their API server."""

    def __init__(self) -> None:
        self.hands = Hands()
        server = Server()
        self.apis = ApiDouble(server), ApiDouble(server)
        self.first, self.second = (
            Lease(api, namespace="n", name="l", identity=name, timing=TIMING, monotonic=self.hands)
            for api, name in zip(self.apis, ("a", "b"), strict=True)
        )

    async def second_leads_within(self, seconds: float) -> bool:
        """``seconds`` pass for the second controller, which looks all the time."""
        acquiring = asyncio.create_task(self.second.acquire())
        for _ in range(20):
            await asyncio.sleep(0.005)
            self.hands.now += seconds / 20
        await asyncio.sleep(0.02)
        done = acquiring.done()
        acquiring.cancel()
        with suppress(asyncio.CancelledError):
            await acquiring
        return done


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def test_one_leads(pair: Pair) -> None:
    await pair.first.acquire()
    pair.first.permit()
    assert not await pair.second_leads_within(14)
    with pytest.raises(Unavailable, match="held by a"):
        pair.second.permit()


async def test_a_leader_that_renews_stays_one(pair: Pair) -> None:
    await pair.first.acquire()
    holding = asyncio.create_task(pair.first.hold())
    assert not await pair.second_leads_within(60)
    assert pair.first.remaining > 0
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_a_silent_leader_has_stopped_before_the_next_one_begins(pair: Pair) -> None:
    await pair.first.acquire()
    assert not await pair.second_leads_within(10.5)
    with pytest.raises(Unavailable):
        pair.first.permit()
    assert await pair.second_leads_within(6)
    pair.second.permit()
    assert pair.second.term == pair.first.term + 1


async def test_a_leader_that_was_paused_finds_itself_replaced(pair: Pair) -> None:
    await pair.first.acquire()
    assert await pair.second_leads_within(20)
    await asyncio.wait_for(pair.first.hold(), 20)
    assert pair.first.lost.is_set()
    with pytest.raises(Unavailable):
        pair.first.permit()


async def test_a_leader_that_was_paused_in_mid_hold_finds_itself_replaced(pair: Pair) -> None:
    await pair.first.acquire()
    pair.apis[0].away = True  # nothing of it gets through, as if it were stopped
    holding = asyncio.create_task(pair.first.hold())
    assert await pair.second_leads_within(20)
    pair.apis[0].away = False
    await asyncio.wait_for(holding, 20)
    assert pair.first.lost.is_set()
    pair.second.permit()


async def test_the_sleep_of_a_suspended_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(ApiDouble(Server()), namespace="n", name="l", identity="a", timing=TIMING)
    await lease.acquire()
    lease.permit()
    clock_gettime = time.clock_gettime
    slept = {time.CLOCK_BOOTTIME: TIMING.renew}  # of all clocks, only this one goes on
    monkeypatch.setattr(time, "clock_gettime", lambda clock: clock_gettime(clock) + slept.get(clock, 0.0))
    with pytest.raises(Unavailable, match="does not lead"):
        lease.permit()


async def test_a_leader_without_an_api_server_stops_in_time(pair: Pair) -> None:
    await pair.first.acquire()
    pair.apis[0].away = True
    holding = asyncio.create_task(pair.first.hold())
    await asyncio.sleep(0.02)
    pair.first.permit()
    pair.hands.now += 10
    await asyncio.wait_for(holding, 20)
    assert pair.first.lost.is_set()


async def test_a_released_lease_is_taken_at_once(pair: Pair) -> None:
    await pair.first.acquire()
    await pair.first.release()
    assert await pair.second_leads_within(0.1)


LEASE = "/apis/coordination.k8s.io/v1/namespaces/n/leases/l"


async def test_a_leader_whose_lease_was_deleted_stops(pair: Pair) -> None:
    await pair.first.acquire()
    assert (await pair.apis[1].request("DELETE", LEASE)).good
    await asyncio.wait_for(pair.first.hold(), 20)
    assert pair.first.lost.is_set()
    with pytest.raises(Unavailable):
        pair.first.permit()


@pytest.mark.parametrize("obeyed", [1, 7])
async def test_after_a_deleted_lease_the_terms_go_on_from_that_of_the_hosts(pair: Pair, obeyed: int) -> None:
    await pair.first.acquire()
    pair.first.outdo(obeyed)
    holding = asyncio.create_task(pair.first.hold())
    await asyncio.wait_for(pair.first.outdone.wait(), 20)
    assert pair.first.term == 1  # that of its open sessions
    pair.first.permit()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    await pair.first.release()
    await pair.second.acquire()
    assert pair.second.term == obeyed + 1


async def test_a_lower_term_of_a_host_is_none_of_a_leaders_business(pair: Pair) -> None:
    await pair.first.acquire()
    await pair.first.release()
    await pair.second.acquire()
    pair.second.outdo(1)
    holding = asyncio.create_task(pair.second.hold())
    await asyncio.sleep(0.02)
    assert not pair.second.outdone.is_set()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_who_lost_the_lease_cannot_outdo_the_one_that_has_it(pair: Pair) -> None:
    await pair.first.acquire()
    assert await pair.second_leads_within(20)
    pair.first.outdo(pair.second.term)
    pair.hands.now -= 20  # as if it had not noticed
    await asyncio.wait_for(pair.first.hold(), 20)
    assert pair.first.lost.is_set()
    assert not pair.first.outdone.is_set()
    await pair.second.release()
    found = await pair.apis[0].request("GET", LEASE)
    assert json.loads(found.body)["spec"]["leaseTransitions"] == 2


# --- the gate ---------------------------------------------------------------------------------


async def test_nothing_passes_a_closed_gate(pair: Pair) -> None:
    passed = []

    async def act() -> None:
        passed.append(1)

    gate = Gate(pair.first.permit, pair.first.lost)
    with pytest.raises(Unavailable):
        await gate.through(act())
    await pair.first.acquire()
    await gate.through(act())
    pair.hands.now += 10
    with pytest.raises(Unavailable):
        await gate.through(act())
    assert passed == [1]


async def test_the_term_that_a_host_obeys_is_told(pair: Pair) -> None:
    told: list[int] = []

    async def act() -> None:
        raise Superseded("h", "it obeys another controller", 7)

    await pair.first.acquire()
    with pytest.raises(Superseded):
        await Gate(pair.first.permit, pair.first.lost, told.append).through(act())
    assert told == [7]


async def test_what_is_under_way_ends_with_the_lease(pair: Pair) -> None:
    await pair.first.acquire()
    ended = asyncio.Event()

    async def act() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    acting = asyncio.create_task(Gate(pair.first.permit, pair.first.lost).through(act()))
    await asyncio.sleep(0.01)
    pair.hands.now += 10
    await asyncio.wait_for(pair.first.hold(), 20)
    with pytest.raises(Unavailable, match="lost its lease"):
        await asyncio.wait_for(acting, 20)
    assert ended.is_set()

"""One task per volume: joining, refusing, parking."""

from __future__ import annotations

import asyncio

import pytest

from csi.core.errors import Busy, NotFound, Unavailable
from csi.core.model import OperationKind, VolumeId
from csi.service.operations import Operations

VOLUME = VolumeId("a" * 32)
CREATE, DELETE = OperationKind.CREATE, OperationKind.DELETE


class Work:
    """Counts how often it was begun; ends when told."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        await self.may_end.wait()
        return self.begun


async def test_the_same_request_joins() -> None:
    operations, work = Operations(), Work()
    calls = [asyncio.create_task(operations.run(VOLUME, CREATE, "request", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*calls) == [1, 1, 1]
    assert len(operations) == 0


@pytest.mark.parametrize(("kind", "request_"), [(CREATE, "another"), (DELETE, "request")])
async def test_another_request_on_the_volume_is_told_to_come_back(kind: OperationKind, request_: str) -> None:
    operations, work = Operations(), Work()
    first = asyncio.create_task(operations.run(VOLUME, CREATE, "request", work))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="create operation under way"):
        await operations.run(VOLUME, kind, request_, work)
    work.may_end.set()
    assert await first == 1


async def test_a_caller_that_gives_up_does_not_end_the_work() -> None:
    operations, work = Operations(), Work()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(operations.run(VOLUME, CREATE, "request", work), 0.01)
    assert operations.is_running(VOLUME)
    work.may_end.set()
    assert await operations.run(VOLUME, CREATE, "request", work) == 1


async def test_an_error_reaches_everybody_who_waits_and_the_next_one_starts_anew() -> None:
    operations = Operations()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise NotFound("thing", "x")

    calls = [asyncio.create_task(operations.run(VOLUME, CREATE, "request", fail)) for _ in range(2)]
    for call in calls:
        with pytest.raises(NotFound):
            await call
    assert not operations.is_running(VOLUME)


async def test_stopping_waits_for_what_ends_in_time() -> None:
    operations, work = Operations(), Work()
    call = asyncio.create_task(operations.run(VOLUME, CREATE, "request", work))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, work.may_end.set)
    await operations.stop(5)
    assert await call == 1


async def test_stopping_parks_what_does_not_and_refuses_what_is_new() -> None:
    operations, work = Operations(), Work()
    call = asyncio.create_task(operations.run(VOLUME, CREATE, "request", work))
    await asyncio.sleep(0)
    await operations.stop(0.01)
    with pytest.raises(Unavailable, match="goes on later"):
        await call
    with pytest.raises(Unavailable, match="stopping"):
        await operations.run(VOLUME, CREATE, "request", work)

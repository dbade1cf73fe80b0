"""Which thin pools are too full, and how far they are extended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core import pools, sizes
from csi.core.model import BrickId, DeviceId
from csi.core.pools import Autoextend, PoolFullness, PoolLimit, Refusing

GIB = 1 << 30
MIB = 1 << 20
POOL = PoolFullness(
    DeviceId("d" * 32), "vg/tp", (BrickId("b" * 32),), (), ("pvc",), 50.0, 5.0, 10 * GIB, 52 * MIB, 10 * GIB, 90 * GIB
)
PROMISED = replace(POOL, promised=15 * GIB)


@pytest.mark.parametrize(
    ("pool", "refusing", "reached", "closes"),
    [
        (POOL, "all", False, False),
        (replace(POOL, data=80.0), "over-committed", True, False),
        (replace(POOL, data=80.0), "all", True, True),
        (replace(PROMISED, data=79.9), "all", False, False),
        (replace(PROMISED, data=80.0), "over-committed", True, True),
        (replace(POOL, metadata=80.0), "over-committed", True, True),
    ],
)
def test_what_counts(pool: PoolFullness, refusing: str, reached: bool, closes: bool) -> None:
    limit = PoolLimit(80.0, Refusing(refusing))
    assert (limit.reached(pool), limit.closes(pool)) == (reached, closes)
    assert list(pools.closed([pool], limit)) == ([pool.device] if closes else [])


def test_of_all_pools_of_a_device_it_is_said_why_it_is_closed() -> None:
    first, second = replace(PROMISED, data=81.0), replace(PROMISED, name="vg/tq", data=99.0)
    (told,) = pools.closed([first, POOL, second], PoolLimit()).values()
    assert "vg/tp" in told
    assert "vg/tq" in told


def test_a_step_is_of_what_the_pool_has_and_ends_with_what_is_promised() -> None:
    rule = Autoextend(PoolLimit(), 70.0, 20.0)
    wanted = rule.wanted(replace(PROMISED, data=75.0), 100 * GIB, 50 * GIB)
    assert wanted is not None
    assert (wanted.data, wanted.metadata) == (12 * GIB, POOL.metadata_size)
    wanted = replace(rule, step=100.0).wanted(replace(PROMISED, data=75.0), 100 * GIB, 50 * GIB)
    assert wanted is not None
    assert wanted.data == PROMISED.promised
    assert not rule.is_due(replace(POOL, data=99.0))
    assert not Autoextend(PoolLimit()).is_due(replace(PROMISED, data=100.0, metadata=100.0))


@given(
    data=st.floats(0, 100),
    metadata=st.floats(0, 100),
    promised=st.integers(1, 40 * GIB),
    step=st.floats(0.1, 1000),
    free=st.integers(-GIB, 30 * GIB),
    refusing=st.sampled_from(Refusing),
)
def test_an_extension_is_within_the_room_and_takes_nothing_away(
    *, data: float, metadata: float, promised: int, step: float, free: int, refusing: Refusing
) -> None:
    pool = replace(POOL, data=data, metadata=metadata, promised=promised)
    rule = Autoextend(PoolLimit(80.0, refusing), 70.0, step)
    wanted = rule.wanted(pool, 100 * GIB, free)
    if wanted is None:
        return
    assert rule.is_due(pool)
    more, deeper = wanted.data - pool.size, wanted.metadata - pool.metadata_size
    assert more >= 0
    assert deeper >= 0
    assert 0 < pools.growth(pool, wanted) == more + deeper <= free
    assert more % sizes.GRAIN == deeper % sizes.GRAIN == 0
    assert wanted.metadata <= max(pool.metadata_size, sizes.largest_metadata(100 * GIB))
    if refusing is Refusing.OVERCOMMITTED:
        assert wanted.data <= max(pool.size, sizes.round_up(promised))

"""What every BrickBackend promises of growth: in use, never back, and of our own bricks alone."""

from __future__ import annotations

import pytest

from csi.bricks import identity
from csi.core import naming
from csi.core.errors import HostUnreachable, Incoherent, Unavailable
from tests.contract.bricks.bench import SIZE, Bench, another, grown, inner, tag, whole


async def test_bricks_grow_while_they_are_in_use(bench: Bench) -> None:
    bricks = [bench.placed(index=n) for n in range(2)]
    await bench.create(*bricks)
    before = [bench.on.size(naming.brick_mount(p.device.id, p.brick.id)) for p in bricks]
    release = bench.on.hold(bricks[0].brick.path)
    # The identity of the one keeps its length, that of the other does not.
    larger = [grown(bricks[0], 10 * SIZE), grown(bricks[1], 2 * SIZE)]
    for _ in range(2):
        await bench.backend.grow(bench.on.host, larger, bricks)
        assert await bench.inspect(*larger) == tuple(map(whole, larger))
        after = [bench.on.size(naming.brick_mount(p.device.id, p.brick.id)) for p in bricks]
        assert [new - old for new, old in zip(after, before, strict=True)] == [9 * SIZE, SIZE]
        for placed in larger:
            assert {bench.on.read(where(placed)) for where in (tag, inner)} == {identity.write(placed.identity) + "\n"}
    release()
    await bench.destroy(*larger)
    assert bench.on.traces() == bench.clean


async def test_a_brick_never_shrinks(bench: Bench) -> None:
    placed = bench.placed(size=2 * SIZE)
    await bench.create(placed)
    point = naming.brick_mount(placed.device.id, placed.brick.id)
    before = bench.on.size(point)
    await bench.backend.grow(bench.on.host, [grown(placed, SIZE)])
    assert bench.on.size(point) == before
    assert (await bench.inspect(placed))[0].size == 2 * SIZE
    await bench.destroy(placed)


async def test_a_growth_interrupted_anywhere_can_be_finished(bench: Bench) -> None:
    bricks = [bench.placed(index=n) for n in range(2)]
    await bench.create(*bricks)
    larger = [grown(placed, 2 * SIZE) for placed in bricks]
    for after in range(4):
        bench.runner.after = after
        with pytest.raises(HostUnreachable):
            await bench.backend.grow(bench.on.host, larger)
        bench.runner.after = None
        for state, placed in zip(await bench.inspect(*bricks), bricks, strict=True):
            assert state.identity is not None
            assert state.identity.owner() == placed.identity.owner()
    await bench.backend.grow(bench.on.host, larger)
    assert await bench.inspect(*larger) == tuple(map(whole, larger))
    await bench.destroy(*bricks)  # by whose record it is still small
    assert bench.on.traces() == bench.clean


async def test_what_is_not_ours_or_not_mounted_does_not_grow(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    larger = grown(placed, 2 * SIZE)
    for where in (tag, inner):
        bench.on.write(where(placed), another(placed))
        with pytest.raises(Incoherent):
            await bench.backend.grow(bench.on.host, [larger])
        bench.on.write(where(placed), identity.write(placed.identity) + "\n")
    assert (await bench.inspect(placed))[0].size == SIZE
    bench.on.unmount(naming.brick_mount(placed.device.id, placed.brick.id))
    with pytest.raises(Unavailable, match="not mounted"):
        await bench.backend.grow(bench.on.host, [larger])
    await bench.destroy(placed)

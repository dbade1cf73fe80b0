"""What every BrickBackend promises of identities: what does not say that it is ours is neither used nor removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.bricks import identity
from csi.core.errors import Incoherent
from tests.contract.bricks.bench import SIZE, Bench, another, image, inner, tag


async def test_a_brick_of_the_same_name_with_another_identity_stays(bench: Bench) -> None:
    placed = bench.placed()
    bench.on.write(tag(placed), another(placed))
    before = bench.on.traces()
    with pytest.raises(Incoherent, match="'another'"):
        await bench.create(placed)
    assert bench.on.traces() == before
    assert bench.on.read(tag(placed)) == another(placed)
    bench.on.remove(tag(placed))


async def test_an_image_without_a_tag_is_not_taken_for_ours(bench: Bench) -> None:
    placed = bench.placed()
    bench.on.write(image(placed), "precious")
    with pytest.raises(Incoherent, match="without a tag"):
        await bench.create(placed)
    assert bench.on.read(image(placed)) == "precious"
    bench.on.remove(image(placed))


async def test_an_image_of_another_size_is_not_taken_for_ours(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    before = bench.on.traces()
    bigger = replace(placed, identity=replace(placed.identity, brick=replace(placed.brick, size=2 * SIZE)))
    with pytest.raises(Incoherent, match=str(SIZE)):
        await bench.create(bigger)
    assert bench.on.traces() == before
    await bench.destroy(placed)


@pytest.mark.parametrize("where", [tag, inner])
@pytest.mark.parametrize("text", ["another", "not JSON\n", "{}\n"])
async def test_a_brick_that_says_it_is_not_ours_stays(bench: Bench, where: object, text: str) -> None:
    assert callable(where)
    good, bad = bench.placed(), bench.placed(index=1)
    await bench.create(good, bad)
    before = bench.on.traces()
    bench.on.write(where(bad), another(bad) if text == "another" else text)
    with pytest.raises(Incoherent) as caught:
        await bench.destroy(good, bad)
    assert where(bad) in str(caught.value)
    assert ("volume 'another'" if text == "another" else repr(text.strip())) in str(caught.value)
    assert bench.on.traces() == before
    bench.on.write(where(bad), identity.write(bad.identity) + "\n")
    await bench.destroy(good, bad)
    assert bench.on.traces() == bench.clean


async def test_an_image_whose_tag_is_lost_stays(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    bench.on.remove(tag(placed))
    before = bench.on.traces()
    with pytest.raises(Incoherent, match="without a tag"):
        await bench.destroy(placed)
    assert bench.on.traces() == before
    bench.on.write(tag(placed), identity.write(placed.identity) + "\n")
    await bench.destroy(placed)


async def test_identities_written_before_the_volume_grew_are_ours(bench: Bench) -> None:
    bricks = [bench.placed(index=n) for n in range(2)]
    await bench.create(*bricks)
    grown = [replace(p, identity=replace(p.identity, volume_size=5 * SIZE)) for p in bricks]
    await bench.create(*grown)
    assert [s.identity for s in await bench.inspect(*grown)] == [p.identity for p in bricks]
    await bench.destroy(*grown)
    assert bench.on.traces() == bench.clean


async def test_an_identity_that_speaks_against_us_is_shown(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    for where in (tag, inner):
        bench.on.write(where(placed), another(placed))
        found = (await bench.inspect(placed))[0].identity
        assert found is not None
        assert found.volume_name == "another"
        bench.on.write(where(placed), identity.write(placed.identity) + "\n")
    await bench.destroy(placed)


async def test_find_passes_over_what_is_not_an_identity(bench: Bench) -> None:
    placed = bench.placed()
    await bench.create(placed)
    strange = f"{placed.device.path}/{'0' * 32}.json"
    bench.on.write(strange, "not an identity\n")
    assert await bench.backend.find(bench.on.host, bench.devices) == (placed.identity,)
    bench.on.remove(strange)
    await bench.destroy(placed)

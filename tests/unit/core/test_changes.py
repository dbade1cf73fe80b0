"""What can be changed of a volume, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from csi.core import changes, params
from csi.core.errors import InvalidRequest
from csi.core.model import Volume
from tests.unit.core.test_growth import _plain


def volume(sets: int = 1, /, **parameters: str) -> Volume:
    made, spec = _plain(), params.parse(parameters).spec
    return replace(made, spec=spec, bricks=made.bricks[: spec.durability.set_size] * sets)


def test_names_are_compared_without_regard_to_case() -> None:
    asked = changes.parse({"VOLUMEOPTIONS": "performance.io-cache off", "Profile": "virt", "arbiter": "true"})
    assert asked == changes.Changes((("performance.io-cache", "off"),), "virt", "", True)
    assert changes.parse({}) == changes.Changes()


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"colour": "blue"}, "arbiter, profile, volumeOptions, volumeType"),
        ({"profile": "../virt"}, "db-workload"),
        ({"profile": ""}, "db-workload"),
        ({"volumeOptions": "features.shard on"}, "performance"),
        ({"volumeOptions": "performance.io-cache"}, "name value"),
        ({"volumeOptions": "performance.io-cache $(reboot)"}, "letters"),
        ({"volumeType": "replicate:9"}, "replicate:3"),
        ({"volumeType": "disperse:4:2", "arbiter": "true"}, "arbiter"),
        ({"arbiter": "perhaps"}, "true or false"),
    ],
)
def test_what_no_volume_can_have(parameters: dict[str, str], word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        changes.parse(parameters)


def test_every_option_of_the_list_can_be_set() -> None:
    for name in changes._NAMES:
        assert changes.parse({"volumeOptions": f"{name} 1"}).options == ((name, "1"),)


@pytest.mark.parametrize(
    ("made", "asked", "after"),
    [
        ({}, {}, "replicate:3"),
        ({}, {"volumeType": "replicate:3"}, "replicate:3"),
        ({"arbiter": "true"}, {"arbiter": "true"}, "replicate:3 arbiter"),
        ({"volumeType": "replicate:2"}, {"volumeType": "replicate:3"}, "replicate:3"),
        ({"volumeType": "replicate:2"}, {"arbiter": "true"}, "replicate:3 arbiter"),
        ({"volumeType": "replicate:2"}, {"arbiter": "false"}, "replicate:2"),
        ({"volumeType": "disperse:4:2"}, {"profile": "virt"}, "disperse:4:2"),
        ({"volumeType": "none"}, {"arbiter": "false"}, "none"),
    ],
)
def test_copies(made: dict[str, str], asked: dict[str, str], after: str) -> None:
    before = volume(**made)
    spec = changes.changed(before, changes.parse(asked))
    assert str(spec.durability) == after
    assert (spec == before.spec) is (spec.changed == 0)


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({}, {"volumeType": "replicate:2"}),
        ({}, {"arbiter": "true"}),
        ({"arbiter": "true"}, {"arbiter": "false"}),
        ({"volumeType": "none"}, {"volumeType": "replicate:2"}),
        ({"volumeType": "replicate:2"}, {"volumeType": "disperse:2:1"}),
    ],
)
def test_no_other_change_of_copies(made: dict[str, str], asked: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="only replicate:2"):
        changes.changed(volume(**made), changes.parse(asked))


def test_volumes_of_several_sets_get_no_copy() -> None:
    with pytest.raises(InvalidRequest, match="has 2 sets"):
        changes.changed(volume(2, volumeType="replicate:2"), changes.parse({"arbiter": "true"}))


def test_options_that_are_not_named_stay() -> None:
    before = volume(volumeOptions="performance.io-cache on, features.shard on")
    spec = changes.changed(before, changes.parse({"volumeOptions": "performance.io-cache off"}))
    assert spec.options == (("performance.io-cache", "off"), ("features.shard", "on"))
    assert changes.differences(spec, before.spec) == []
    assert changes.differences(before.spec, spec) != []
    assert changes.differences(spec, replace(before.spec, root_mode=0o777)) == ["root_mode is 1528, asked for 511"]

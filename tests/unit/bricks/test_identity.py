"""Identities and marks as text: one line, the same for equal values, and read with care."""

from dataclasses import replace

from csi.bricks import identity
from csi.bricks.identity import DeviceMark
from csi.core.model import DeviceId
from tests.unit.bricks.test_file import placed


def test_an_identity_is_one_line_and_comes_back() -> None:
    who = replace(placed().identity, volume_name='a "name"\nwith ümläuts \u2028 and \x00')
    text = identity.write(who)
    assert "\n" not in text
    assert "\0" not in text
    assert identity.read_brick(text) == who
    assert identity.read_brick(text + "\n") == who


def test_equal_identities_are_equal_text() -> None:
    assert identity.write(placed().identity) == identity.write(placed().identity)


def test_what_is_not_an_identity_is_none() -> None:
    mark = identity.write(DeviceMark("i", DeviceId("d" * 32)))
    for text in ("", "x", "{}", "[]", mark, identity.write(placed().identity)[:-1]):
        assert identity.read_brick(text) is None
    assert identity.read_mark("") is None
    assert identity.read_mark(mark) == DeviceMark("i", DeviceId("d" * 32))


def test_fields_of_a_later_version_are_passed_over() -> None:
    who = placed().identity
    text = identity.write(who)
    assert identity.read_brick(text[:-1] + ',"new_in_some_version":1}') == who

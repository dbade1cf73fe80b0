"""Nothing that a user types becomes another command or an option of the tool."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.core.errors import InvalidRequest
from csi.core.model import Durability, Protection
from csi.gluster import words
from csi.gluster.words import LINE_LIMIT, VALUE_LIMIT

# As gluster reads its input: 1023 bytes or up to a line feed at a time, cut at white space.
PROMPT_BUFFER = 1023


@given(st.lists(st.text(), min_size=1))
def test_a_line_is_read_as_the_same_words_or_is_none(given: list[str]) -> None:
    line = words.line(given)
    if line is not None:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert len(line) <= PROMPT_BUFFER
        assert line.decode().split() == given


@given(st.lists(st.from_regex(r"[!-~]{1,40}", fullmatch=True), min_size=1, max_size=20))
def test_plain_words_go_by_session(given: list[str]) -> None:
    assert words.line(given) is not None


def test_the_longest_line() -> None:
    assert words.line(["x" * LINE_LIMIT]) is not None
    assert words.line(["x" * (LINE_LIMIT + 1)]) is None


@given(st.text(), st.text())
def test_options_are_refused_or_said_as_they_are(key: str, value: str) -> None:
    try:
        said = words.options("v", [("user.a", "1"), (key, value)])
    except InvalidRequest:
        return
    assert said == ("volume", "set", "v", "user.a", "1", key, value)
    assert not any(word.startswith("--") or not word or not word.isprintable() for word in said[:-1])
    assert value
    assert not value.startswith("--")
    assert not any(ord(character) < 32 for character in value)


@pytest.mark.parametrize("value", ["off", "-1", "10GB", "a b", "*", "192.0.2.*,fd00::1", "ü", "x" * VALUE_LIMIT])
def test_values_that_gluster_takes(value: str) -> None:
    assert words.options("v", [("auth.allow", value)])[-1] == value


@pytest.mark.parametrize("value", ["", "\n", "a\nb", "\t", "\0", "--xml", "x" * (VALUE_LIMIT + 1), "ü" * VALUE_LIMIT])
def test_values_that_it_does_not(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"auth\.allow"):
        words.options("v", [("auth.allow", value)])


@pytest.mark.parametrize(
    "key", ["", "help", "group", "force", "all", "a b", "-x", "--xml", "user.", ".x", "a;b", "ä.b"]
)
def test_keys_that_it_does_not(key: str) -> None:
    with pytest.raises(InvalidRequest):
        words.options("v", [(key, "1")])


@pytest.mark.parametrize("name", ["vol_0123", "a", "A-b_c", "1" * 255])
def test_names(name: str) -> None:
    assert words.name(name) == name


@pytest.mark.parametrize("name", ["", "all", "help", "-a", "_a", "a.b", "a b", "a\n", "1" * 256, "ä"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        words.name(name)


@given(st.lists(st.text()))
def test_checked_words_hold_no_option_of_the_tool(given: list[str]) -> None:
    try:
        said = words.checked(given)
    except InvalidRequest:
        return
    assert list(said) == given
    assert all(word and not word.startswith("--") and "\n" not in word and "\0" not in word for word in said)


@pytest.mark.parametrize(
    ("durability", "said"),
    [
        (Durability(Protection.NONE), ()),
        (Durability(Protection.REPLICATE, 1, 1), ("replica", "2")),
        (Durability(Protection.REPLICATE, 1, 2), ("replica", "3")),
        (Durability(Protection.REPLICATE, 1, 2, arbiter=True), ("replica", "3", "arbiter", "1")),
        (Durability(Protection.DISPERSE, 4, 2), ("disperse-data", "4", "redundancy", "2")),
    ],
)
def test_durabilities(durability: Durability, said: tuple[str, ...]) -> None:
    assert words.counts(durability) == said

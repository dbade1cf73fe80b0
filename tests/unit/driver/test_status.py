"""Every error has a status, and none promises more than it may."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from csi.core import errors
from csi.core.errors import DriverError, InvalidRequest, NotFound
from csi.driver import status

NOT_FINAL = {grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def subclasses(kind: type[DriverError]) -> Iterator[type[DriverError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("csi."):
            yield child
            yield from subclasses(child)


@pytest.mark.parametrize("kind", sorted(set(subclasses(DriverError)), key=str))
def test_every_error_has_a_row(kind: type[DriverError]) -> None:
    assert any(ancestor in status.TABLE for ancestor in kind.__mro__), f"{kind.__name__} has no row in status.TABLE"


def test_the_table_has_no_row_for_what_is_never_raised() -> None:
    assert DriverError not in status.TABLE
    assert set(status.TABLE) <= set(subclasses(DriverError))


@pytest.mark.parametrize(
    "kind",
    [
        errors.Busy,
        errors.Unavailable,
        errors.HostUnreachable,
        errors.CommandTimeout,
        errors.StateUnusable,
        errors.StaleState,
    ],
)
def test_what_may_still_be_in_progress_is_not_final(kind: type[DriverError]) -> None:
    assert status.TABLE[kind] in NOT_FINAL


def test_a_subclass_has_the_status_of_its_parent() -> None:
    class Unforeseen(NotFound):
        pass

    assert status.of(Unforeseen("volume", "x"), "r") == status.Status(
        grpc.StatusCode.NOT_FOUND, "volume 'x' does not exist"
    )


def test_the_text_of_an_unforeseen_error_stays_inside() -> None:
    answer = status.of(ValueError("password=hunter2"), "1a2b")
    assert answer.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in answer.message
    assert "1a2b" in answer.message


def test_a_message_is_never_empty() -> None:
    assert status.of(errors.Busy(), "r").message == "Busy"


def test_a_long_message_fits_a_header() -> None:
    answer = status.of(InvalidRequest("f", "v", "ü" * 5000), "r")
    assert len(answer.message.encode()) <= 2000
    assert answer.message.startswith("f: 'v' is not accepted")
    assert answer.message.endswith("ü...")

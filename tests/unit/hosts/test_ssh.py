"""Where a host's ``manage`` leads."""

from __future__ import annotations

import pytest

from csi.core.errors import HostUnreachable
from csi.hosts.ssh import address


@pytest.mark.parametrize(
    ("manage", "expected"),
    [
        ("storage1", ("storage1", 22)),
        ("storage1.example.org:2222", ("storage1.example.org", 2222)),
        ("10.0.0.1", ("10.0.0.1", 22)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("fd00::1", ("fd00::1", 22)),
        ("[fd00::1]", ("fd00::1", 22)),
        ("[fd00::1]:2222", ("fd00::1", 2222)),
    ],
)
def test_an_address_may_carry_a_port(manage: str, expected: tuple[str, int]) -> None:
    assert address(manage, 22) == expected


@pytest.mark.parametrize("manage", ["h:0", "h:65536", "h:ssh", "h:²", "[fd00::1", "[fd00::1]2222", "h:-1"])
def test_what_is_no_address_is_refused_with_the_forms_that_are(manage: str) -> None:
    with pytest.raises(HostUnreachable, match="NAME:PORT"):
        address(manage, 22)

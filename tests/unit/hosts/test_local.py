"""What a prefix does to the shells of this machine."""

from __future__ import annotations

import pytest

from csi.core.command import Command, Script
from csi.core.errors import HostUnreachable
from csi.core.model import ClusterId, Host
from csi.core.naming import host_id
from csi.hosts.local import LocalRunner

HERE = Host(host_id("here"), ClusterId("c" * 32), "here", "here", 1)


async def test_each_host_has_its_prefix() -> None:
    runner = LocalRunner(prefix=lambda host: ("env", f"WHERE=in the {host.manage}"))
    (result,) = await runner.run(HERE, Script((Command(("sh", "-c", 'echo "$WHERE"')),)))
    assert result.stdout == "in the here\n"
    await runner.close()


async def test_a_prefix_that_is_not_there_is_named() -> None:
    runner = LocalRunner(prefix=lambda _: ("/no/such/program",))
    with pytest.raises(HostUnreachable, match="/no/such/program cannot be started"):
        await runner.run(HERE, Script((Command(("true",)),)))
    await runner.close()


async def test_why_a_prefix_gives_no_shell_is_told() -> None:
    runner = LocalRunner(prefix=lambda _: ("sh", "-c", "echo you may not >&2; exit 1"))
    with pytest.raises(HostUnreachable, match="you may not"):
        await runner.run(HERE, Script((Command(("true",)),)))
    await runner.close()

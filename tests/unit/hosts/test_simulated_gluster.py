"""The long-lived ``gluster`` of simulated hosts, whatever glusterd answers there."""

from __future__ import annotations

import pytest

from csi.core.errors import CommandFailed, CommandTimeout, HostUnreachable
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.world import Fault, Kind
from tests.unit.hosts.simulated_pool import Pool


class Echo:
    """A glusterd that answers with what it was asked."""

    def answer(self, machine: Machine, words: list[str]) -> str:
        if words[0] == "wrong":
            raise ValueError("unrecognized word: wrong (position 0)")
        return f"<cliOutput><opRet>0</opRet>{' '.join(words)}</cliOutput>\n"

    def end_bricks(self, machine: Machine, volume: str) -> int:
        return len([machine.kill(pid) for pid in tuple(machine.processes)])

    def booted(self, machine: Machine) -> None:
        machine.spawn("glusterd", ("glusterd",))


END = b"</cliOutput>"


async def test_gluster_answers_line_by_line(pool: Pool) -> None:
    pool.world.glusterd = Echo()
    channel = await pool.runner.open(pool.hosts[0], ("gluster", "--mode=script", "--xml"))
    await channel.write(b"volume info v1\nvolume st")
    first = (await channel.read_until(END, 1)).decode()
    assert first.startswith("Welcome to gluster prompt")
    assert first.endswith("volume info v1</cliOutput>")
    await channel.write(b"atus\n")
    assert b"volume status" in await channel.read_until(END, 1)
    await channel.write(b"wrong\n")
    assert await channel.read_until(b")\n", 1) == b"\nunrecognized word: wrong (position 0)\n"
    with pytest.raises(CommandTimeout):
        await channel.read_until(END, 0.01)
    await channel.close()
    with pytest.raises(HostUnreachable):
        await channel.read_until(END, 1)


async def test_gluster_alone_ends_with_a_status(pool: Pool) -> None:
    with pytest.raises(CommandFailed):
        await pool.run("gluster", "--mode=script", "--xml", "volume", "info")
    pool.world.glusterd = Echo()
    assert "volume info" in await pool.run("gluster", "--mode=script", "--xml", "volume", "info")
    with pytest.raises(CommandFailed):
        await pool.run("gluster", "--mode=script", "--xml", "wrong")


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Kind.HANG, CommandTimeout), (Kind.DROP_BEFORE, HostUnreachable), (Kind.DROP_AFTER, HostUnreachable)],
)
async def test_a_line_of_gluster_can_be_struck(pool: Pool, kind: Kind, error: type[Exception]) -> None:
    pool.world.glusterd = Echo()
    channel = await pool.runner.open(pool.hosts[0], ("gluster", "--mode=script", "--xml"))
    pool.world.inject(Fault("*", "gluster volume start*", kind))
    await channel.write(b"volume start v1\n")
    with pytest.raises(error):
        await channel.read_until(END, 0.01)


async def test_an_error_of_gluster_is_a_document(pool: Pool) -> None:
    pool.world.glusterd = Echo()
    channel = await pool.runner.open(pool.hosts[0], ("gluster", "--mode=script", "--xml"))
    pool.world.inject(Fault("*", "gluster volume start*", Kind.ERROR, status=30800, stderr="no luck"))
    await channel.write(b"volume start v1\n")
    answer = await channel.read_until(END, 1)
    assert b"<opRet>-1</opRet>" in answer
    assert b"<opErrno>30800</opErrno>" in answer
    assert b"no luck" in answer


async def test_glusterd_starts_with_its_host_and_its_bricks_can_be_ended(pool: Pool) -> None:
    pool.world.glusterd = Echo()
    pool.machines[0].reboot()
    assert [process.name for process in pool.machines[0].processes.values()] == ["glusterd"]
    await pool.run("csi_end_bricks", "v1")
    assert pool.machines[0].processes == {}

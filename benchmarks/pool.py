"""(a) to (d) and (f): our driver against the plain shell, on the same real pool, in turns.

The pool has no hook scripts. Those of the package (Samba, CTDB, Ganesha, SELinux) find nothing to do here and take
their time all the same: 30 ms of a stop, 100 ms of a delete, for both sides alike. ``HOOKS=1`` measures with them.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plain import PlainPool
from csi.api import csi_pb2 as pb
from tests.driver import GIB, Client, Driver, capability
from tests.lab import Lab
from tests.lab.sessions import remove_abandoned, session_instance

ROUNDS = 12
SINGLES = 40  # of what is done one at a time: of twelve, the ratio of the medians is 5 % off now and then
AT_ONCE = 30
BURSTS = 12
DELETED_BY_HAND = 2  # of these bursts: each takes a minute
SETTLED = 2.0  # seconds between bursts, for what the self-heal daemons still do about the one before


@dataclass(frozen=True, slots=True)
class Row:
    """All samples in milliseconds; ``limit`` is what the ratio of their medians must not exceed."""

    what: str
    ours: list[float]
    plain: list[float]
    limit: float

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.plain)


def shown(times: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(times):.1f} ({min(times):.1f}–{max(times):.1f})"


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


def _request(name: str) -> pb.CreateVolumeRequest:
    return pb.CreateVolumeRequest(
        name=name, capacity_range=pb.CapacityRange(required_bytes=GIB), volume_capabilities=[capability()]
    )


class Ours:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.ids: dict[str, str] = {}

    async def create(self, name: str) -> None:
        call = self.client.controller.CreateVolume.future(_request(name), timeout=120)
        self.ids[name] = (await asyncio.to_thread(call.result)).volume.volume_id

    async def expand(self, name: str, size: int) -> None:
        request = pb.ControllerExpandVolumeRequest(
            volume_id=self.ids[name], capacity_range=pb.CapacityRange(required_bytes=size)
        )
        # A call that blocks, as a sidecar's: nothing else runs, and the turns of one more thread would count as ours.
        self.client.controller.ControllerExpandVolume(request, timeout=120)

    async def delete(self, name: str) -> None:
        request = pb.DeleteVolumeRequest(volume_id=self.ids.pop(name))
        await asyncio.to_thread(self.client.controller.DeleteVolume.future(request, timeout=120).result)


async def singles(ours: Ours, plain: PlainPool) -> tuple[Row, Row]:
    """One create and one delete at a time, ours and theirs in turns."""
    times: dict[str, list[float]] = {"our create": [], "create": [], "our delete": [], "delete": []}
    for number in range(SINGLES + 1):
        mine, theirs = f"ours-{number}", f"plain-{number}"
        sample = {
            "our create": await timed(ours.create(mine)),
            "create": await timed(plain.create(theirs, GIB, 3000)),
            "our delete": await timed(ours.delete(mine)),
            "delete": await timed(plain.delete(theirs)),
        }
        if number:  # the first round warms up both
            for what, value in sample.items():
                times[what].append(value)
    return (
        Row("(a) CreateVolume, replica 3", times["our create"], times["create"], 1.0),
        Row("(c) DeleteVolume", times["our delete"], times["delete"], 0.15),
    )


async def bursts(ours: Ours, plain: PlainPool) -> tuple[Row, Row]:
    """Thirty at once."""

    async def burst(call: Callable[[str], Awaitable[object]], prefix: str) -> float:
        return await timed(asyncio.gather(*(call(f"{prefix}-{i}") for i in range(AT_ONCE))))

    async def plain_create(name: str) -> None:
        await plain.create(name, GIB, 3000)

    times: dict[str, list[float]] = {"our create": [], "create": [], "our delete": [], "delete": []}

    async def our_round(number: int) -> None:
        times["our create"].append(await burst(ours.create, f"many-{number}"))
        times["our delete"].append(await burst(ours.delete, f"many-{number}"))

    async def plain_round(number: int) -> None:
        times["create"].append(await burst(plain_create, f"plainmany-{number}"))
        if number < DELETED_BY_HAND:
            times["delete"].append(await burst(plain.delete, f"plainmany-{number}"))
        else:
            await burst(plain.clear, f"plainmany-{number}")

    for number in range(BURSTS):
        # glusterd and its self-heal daemons get slower with all that they have seen, so each side goes first in turn.
        for act in (our_round, plain_round) if number % 2 else (plain_round, our_round):
            await act(number)
            await asyncio.sleep(SETTLED)
    return (
        Row(f"(b) {AT_ONCE} CreateVolume at once", times["our create"], times["create"], 1.0),
        Row(f"(c) {AT_ONCE} DeleteVolume at once", times["our delete"], times["delete"], 0.1),
    )


async def expansions(ours: Ours, plain: PlainPool) -> Row:
    """A volume that gets larger by 64 MiB each time, ours and theirs in turns."""
    await ours.create("growing")
    await plain.create("plaingrowing", GIB, 3000)
    mine, theirs = [], []
    for number in range(SINGLES + 1):
        size = GIB + (number + 1) * (64 << 20)
        samples = await timed(ours.expand("growing", size)), await timed(plain.expand("plaingrowing", size))
        if number:
            mine.append(samples[0])
            theirs.append(samples[1])
    await ours.delete("growing")
    await plain.delete("plaingrowing")
    return Row("(f) ControllerExpandVolume", mine, theirs, 1.3)


async def mounts(ours: Ours, work: Path) -> Row:
    """NodeStage + NodePublish against ``mount -t glusterfs`` and a bind mount, from an open shell."""
    volume = await asyncio.to_thread(
        lambda: ours.client.controller.CreateVolume(_request("mounted"), timeout=120).volume
    )
    shell = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert shell.stdin is not None
    assert shell.stdout is not None
    staging, target, plain, bound = work / "staging", work / "target", work / "plain", work / "bound"
    plain.mkdir()
    bound.mkdir()
    context = dict(volume.volume_context)
    source = f"{context['servers'].split(',')[0]}:/{context['glusterVolume']}"
    mine, theirs = [], []
    try:
        for number in range(ROUNDS + 1):
            staging.mkdir(exist_ok=True)
            began = time.perf_counter()
            ours.client.stage(volume, staging)
            ours.client.publish(volume, staging, target)
            middle = time.perf_counter()
            ours.client.unpublish(volume, target)
            ours.client.unstage(volume, staging)
            started = time.perf_counter()
            shell.stdin.write(f"mount -t glusterfs {source} {plain} && mount --bind {plain} {bound}; echo $?\n")
            shell.stdin.flush()
            if shell.stdout.readline().strip() != "0":
                raise RuntimeError("mount -t glusterfs failed")
            ended = time.perf_counter()
            subprocess.run(["umount", str(bound), str(plain)], check=True)
            if number:
                mine.append((middle - began) * 1000)
                theirs.append((ended - started) * 1000)
    finally:
        shell.stdin.close()
        shell.wait(5)
        await asyncio.to_thread(ours.client.delete, volume.volume_id)
    return Row("(d) stage + publish", mine, theirs, 0.6)


async def _measure(lab: Lab, driver: Driver, work: Path) -> list[Row]:
    async with AsyncExitStack() as stack:
        plain = await PlainPool.connect(lab, stack)
        ours = Ours(stack.enter_context(driver.client()))
        # The first volume of a pool pays two seconds for the self-heal daemon; neither side shall.
        await ours.create("base")
        create, delete = await singles(ours, plain)
        creates, deletes = await bursts(ours, plain)
        expanded = await expansions(ours, plain)
        mounted = await mounts(ours, work)
        await ours.delete("base")
        return [create, creates, delete, deletes, expanded, mounted]


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="gluster-csi-bench-") as temporary:
        work = Path(temporary)
        remove_abandoned()
        lab = Lab(session_instance(), hooks=os.environ.get("HOOKS") == "1")
        try:
            lab.up()
            driver = Driver(lab, work / "driver", settings={"gids": {"rest_seconds": 0}})
            try:
                driver.start()
                return asyncio.run(_measure(lab, driver, work))
            finally:
                driver.stop()
        finally:
            lab.down()

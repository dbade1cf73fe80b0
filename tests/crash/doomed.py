"""``gluster-csi serve`` that kills itself (SIGKILL) at the n-th point given in ``DOOM``: for the real crash tests.

Points are: before and after each script that goes to a host, each line to a long-lived program, each commit. The file
``points`` beside the state has a line for each that was reached. ``DOOM=never`` only counts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from csi import app, corewiring
from csi.bricks.filecopies import FileCopies
from csi.config import Settings
from csi.core.command import Result, Script
from csi.core.inventory import Inventory
from csi.core.model import Backend, Host
from csi.gluster.adapter import GlusterCli
from csi.leadership import Leadership
from csi.ports import Change, Channel, Runner, Store


class Doom:
    """Counting starts when the file ``armed`` appears beside the state: the topology is loaded before."""

    def __init__(self, order: str, directory: Path) -> None:
        self._at = -1 if order == "never" else int(order)
        self._armed = directory / "armed"
        self._points = directory / "points"
        self._seen = 0

    def point(self, label: str) -> None:
        if not self._armed.exists():
            return
        with self._points.open("a") as file:
            file.write(label + "\n")
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen += 1


def _doom_commits(store: Store, doom: Doom) -> None:
    """Of whichever store it is."""
    commit = store.commit

    async def doomed(changes: Sequence[Change]) -> Inventory:
        doom.point("before commit")
        inventory = await commit(changes)
        doom.point("after commit")
        return inventory

    store.commit = doomed  # type: ignore[method-assign]


class DoomedChannel:
    def __init__(self, channel: Channel, doom: Doom) -> None:
        self._channel = channel
        self._doom = doom

    async def write(self, data: bytes) -> None:
        self._doom.point(f"before {data[:60]!r}")
        await self._channel.write(data)

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        answer = await self._channel.read_until(end, timeout, limit)
        self._doom.point("after an answer")
        return answer

    async def close(self) -> None:
        await self._channel.close()


class DoomedRunner:
    def __init__(self, runner: Runner, doom: Doom) -> None:
        self._runner = runner
        self._doom = doom

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        label = f"{script.commands[0].argv[0]} ... on {host.manage}"
        self._doom.point(f"before {label}")
        results = await self._runner.run(host, script)
        self._doom.point(f"after {label}")
        return results

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        return DoomedChannel(await self._runner.open(host, argv), self._doom)

    async def close(self) -> None:
        await self._runner.close()


def main() -> None:
    settings = app.settings_for(app.Role.SERVE, Path(sys.argv[-1]), os.environ)
    doom = Doom(os.environ["DOOM"], Path(sys.argv[-1]).parent)
    reach = app.reach

    def doomed(settings: Settings, leadership: Leadership | None = None) -> corewiring.Outside:
        outside = reach(settings, leadership)
        runner = DoomedRunner(outside.runner, doom)
        _doom_commits(outside.store, doom)
        return replace(
            outside,
            runner=runner,
            gluster=GlusterCli(runner, outside.clock),
            backends={Backend.FILE: FileCopies(runner, settings.instance, settings.bricks.fstab)},
        )

    app.reach = doomed
    asyncio.run(app.run(app.Role.SERVE, settings))


if __name__ == "__main__":
    main()

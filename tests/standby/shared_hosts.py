"""Simulated hosts that several processes reach: a runner in each, the world in the test, a Unix socket between.

A command goes on when the process that sent it is gone, as on a real host: to its end, or to the first session of a
higher term.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import pickle
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi.core.command import Result, Script
from csi.core.errors import DriverError, HostUnreachable
from csi.core.model import Host
from csi.hosts.mandate import Mandate, Mandated, nobody
from csi.hosts.simulated.runner import SimulatedRunner
from csi.hosts.simulated.world import World
from csi.ports import Channel


def _rebuild(kind: type[DriverError], args: tuple[Any, ...], state: dict[str, Any]) -> DriverError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class _Pickler(pickle.Pickler):
    """Errors of ours take other arguments than they keep, which pickle does not know by itself."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, DriverError):
            return _rebuild, (type(value), value.args, value.__dict__)
        return NotImplemented


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return pickle.loads(await reader.readexactly(length))


def _frame(value: object) -> bytes:
    packed = io.BytesIO()
    _Pickler(packed).dump(value)
    body = packed.getvalue()
    return struct.pack("!I", len(body)) + body


@dataclass(frozen=True, slots=True)
class _Side:
    """What belongs to one controller."""

    runner: SimulatedRunner
    mandates: list[Mandate | None]  # the present one alone
    channels: dict[int, Channel]
    writer: asyncio.StreamWriter


class SharedHosts:
    """The side of the test. ``sent``: how many calls have come, for a test that waits for the n-th."""

    def __init__(self, world: World, path: Path) -> None:
        self.world = world
        self.sent = 0
        self._path = path
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mandates: list[Mandate | None] = [None]
        side = _Side(SimulatedRunner(self.world, lambda: mandates[0]), mandates, {}, writer)
        mine: dict[int, asyncio.Task[None]] = {}
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, method, args = await _read(reader)
                if method == "cancel":
                    if args[0] in mine:
                        mine[args[0]].cancel()
                    continue
                if method == "mandate":
                    side.mandates[:] = args
                    continue
                self.sent += 1
                call = asyncio.create_task(self._call(side, number, method, args))
                mine[number] = call
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
        writer.close()

    async def _call(self, side: _Side, number: int, method: str, args: tuple[Any, ...]) -> None:
        try:
            if method == "run":
                answer: Any = await side.runner.run(*args)
            elif method == "open":
                side.channels[number] = await side.runner.open(*args)
                answer = None
            else:
                channel, *rest = args
                answer = await getattr(side.channels[channel], method)(*rest)
            reply = (number, True, answer)
        except DriverError as error:
            reply = (number, False, error)
        if not side.writer.is_closing():
            side.writer.write(_frame(reply))


class FarRunner:
    """The side of a controller; implements ``ports.Runner``."""

    def __init__(self, path: str, mandate: Mandated = nobody) -> None:
        self._path = path
        self._mandate = mandate
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def run(self, host: Host, script: Script) -> tuple[Result, ...]:
        results: tuple[Result, ...] = (await self.call("run", host, script))[1]
        return results

    async def open(self, host: Host, argv: Sequence[str]) -> Channel:
        number, _ = await self.call("open", host, argv)
        return FarChannel(self, number)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()

    async def call(self, method: str, *args: Any) -> tuple[int, Any]:
        async with self._connecting:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                self._listening = asyncio.create_task(self._listen(reader))
        self._writer.write(_frame((next(self._numbers), "mandate", (self._mandate(),))))
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(_frame((number, method, args)))
        try:
            return number, await future
        except asyncio.CancelledError:
            self._writer.write(_frame((next(self._numbers), "cancel", (number,))))
            raise
        finally:
            del self._waiting[number]

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, good, value = await _read(reader)
                if (future := self._waiting.get(number)) is not None and not future.done():
                    future.set_result(value) if good else future.set_exception(value)
        for future in self._waiting.values():
            future.set_exception(HostUnreachable("all", "the test has ended"))


class FarChannel:
    """Implements ``ports.Channel``."""

    def __init__(self, runner: FarRunner, number: int) -> None:
        self._runner = runner
        self._number = number

    async def write(self, data: bytes) -> None:
        await self._runner.call("write", self._number, data)

    async def read_until(self, end: bytes, timeout: float, limit: int = 16 << 20) -> bytes:
        answer: bytes = (await self._runner.call("read_until", self._number, end, timeout, limit))[1]
        return answer

    async def close(self) -> None:
        await self._runner.call("close", self._number)

"""Writes of one turn leave together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from csi.hosts.gathered import GatheringConnector


class Told(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.data += data

    def eof_received(self) -> bool | None:
        self.calls.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Bench:
    """A client by the connector, and the other end of its connection."""

    def __init__(self, client: Told, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client, self.reader, self.writer = client, reader, writer
        self.writes: list[bytes] = []
        socket = self.client.transport._socket  # type: ignore[attr-defined]
        real = socket.write

        def write(data: bytes) -> None:
            self.writes.append(data)
            real(data)

        socket.write = write


@asynccontextmanager
async def connected() -> AsyncIterator[Bench]:
    arrived: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result((reader, writer))

    server = await asyncio.start_server(arrive, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    made: Any = Told
    _, client = await GatheringConnector().create_connection(made, host, port)
    server.close()
    bench = Bench(cast(Told, client), *await arrived)
    yield bench
    bench.client.transport.abort()
    await asyncio.wait([bench.client.lost])
    bench.writer.close()
    with suppress(ConnectionError):
        await bench.writer.wait_closed()


async def test_what_is_written_in_one_turn_is_one_write() -> None:
    async with connected() as bench:
        bench.client.transport.write(b"one ")
        bench.client.transport.write(bytearray(b"two"))
        assert bench.writes == []
        assert await bench.reader.readexactly(7) == b"one two"
        bench.client.transport.write(b"!")
        assert await bench.reader.readexactly(1) == b"!"
        assert bench.writes == [b"one two", b"!"]


async def test_what_comes_in_and_the_end_are_told() -> None:
    async with connected() as bench:
        bench.writer.write(b"hello")
        bench.writer.write_eof()
        while "eof" not in bench.client.calls:
            await asyncio.sleep(0.001)
        assert (bytes(bench.client.data), bench.client.calls[-1]) == (b"hello", "eof")
        bench.client.transport.write(b"after your end")
        bench.client.transport.close()
        assert bench.client.transport.is_closing()
        assert await bench.reader.read() == b"after your end", "written before it closed"
        assert await bench.client.lost is None


async def test_an_abort_drops_what_waits() -> None:
    async with connected() as bench:
        bench.client.transport.write(b"never")
        bench.client.transport.abort()
        await bench.client.lost
        assert await bench.reader.read() == b""
        assert bench.writes == []


async def test_the_socket_is_known_and_nobody_there_is_an_error() -> None:
    async with connected() as bench:
        host, port = bench.client.transport.get_extra_info("peername")
        assert bench.client.transport.get_extra_info("nothing", 1) == 1
        bench.client.transport.close()
        await bench.client.lost
        with pytest.raises(ConnectionRefusedError):
            await GatheringConnector().create_connection(cast(Any, Told), host, port)

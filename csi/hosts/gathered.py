"""What is written to a connection in one turn of the event loop leaves as one packet.

asyncssh puts a packet to be ignored before each of its own (against a weakness of CBC ciphers, whatever the cipher),
and writes each to the socket at once: two system calls, two packets on the wire, and a remote sshd that is woken twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast


class GatheringConnector:
    """Opens connections of that kind. In the shape of a tunnel for ``asyncssh.connect``."""

    async def create_connection(
        self, factory: Callable[[str, int], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        """Raises: OSError, if nobody answers there."""
        make = cast(Callable[[], asyncio.Protocol], factory)  # of a connection in a tunnel it takes no words
        transport, relay = await asyncio.get_running_loop().create_connection(lambda: _Relay(make()), host, port)
        return transport, relay.inner


class _Relay(asyncio.Protocol):
    """Between the socket and the protocol, which it gives the other transport."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self.inner = inner
        self.data_received = inner.data_received  # type: ignore[method-assign]  # without a call in between

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inner.connection_made(_Gathered(cast(asyncio.Transport, transport)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()


class _Gathered(asyncio.Transport):
    """A transport whose writes wait for the end of the turn."""

    def __init__(self, socket: asyncio.Transport) -> None:
        super().__init__()
        self._socket = socket
        self._waiting: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._socket.write(b"".join(waiting))

    def close(self) -> None:
        self._flush()
        self._socket.close()

    def abort(self) -> None:
        self._waiting.clear()
        self._socket.abort()

    def is_closing(self) -> bool:
        return self._socket.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)

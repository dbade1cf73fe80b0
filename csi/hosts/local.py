"""Commands for the machine that this process runs on, in the same shells as over ssh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from csi.core.errors import HostUnreachable
from csi.core.model import Host
from csi.hosts import shell
from csi.hosts.mandate import Mandated, nobody
from csi.hosts.pool import ShellRunner
from csi.hosts.sessions import Pipe, Receiver

_STDOUT = 1
_CLOSE_TIMEOUT = 2.0  # seconds


class _Process(asyncio.SubprocessProtocol):
    """The process as asyncio sees it, told to the receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._receiver.received(fd - _STDOUT, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == _STDOUT:
            self._receiver.ending()

    def process_exited(self) -> None:
        self._receiver.exited()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.close()
        self.finished.set_result(None)

    # Pipe

    def _stdin(self) -> asyncio.WriteTransport | None:
        return cast(asyncio.WriteTransport | None, self._transport.get_pipe_transport(0))

    def write(self, data: bytes) -> None:
        if (stdin := self._stdin()) is not None:
            stdin.write(data)

    def write_eof(self) -> None:
        if (stdin := self._stdin()) is not None:
            stdin.close()

    def close(self) -> None:
        # The transport's own close() would kill the process, and not the group: that is decided elsewhere.
        for fd in range(3):
            if (pipe := self._transport.get_pipe_transport(fd)) is not None:
                pipe.close()

    def kill(self) -> None:
        self._transport.close()


class LocalLink:
    """This machine is always there. ``prefix`` is put before ``/bin/sh``: sudo, nsenter and the like."""

    def __init__(self, host: str, prefix: Sequence[str] = ()) -> None:
        self._host = host
        self._argv = (*prefix, "/bin/sh")
        self._processes: set[_Process] = set()

    @property
    def alive(self) -> bool:
        return True

    async def start(self, receiver: Receiver) -> Pipe:
        process = _Process(receiver)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: process,
                *self._argv,
                cwd="/",
                # Not our own environment: settings in it may be secrets.
                env={"PATH": shell.SEARCH_PATH, "LC_ALL": "C", "HOME": "/"},
                start_new_session=True,
            )
        except OSError as error:
            raise HostUnreachable(self._host, f"{self._argv[0]} cannot be started: {error}") from error
        self._processes.add(process)
        process.finished.add_done_callback(lambda _: self._processes.discard(process))
        return process

    async def close(self) -> None:
        """Wait for the shells, whose input has been closed, to end."""
        if self._processes:
            await asyncio.wait([process.finished for process in self._processes], timeout=_CLOSE_TIMEOUT)
        for process in tuple(self._processes):
            process.kill()


class LocalRunner(ShellRunner):
    """``ports.Runner`` for this machine, under whatever host records."""

    def __init__(
        self,
        prefix: Callable[[Host], Sequence[str]] = lambda _: (),
        sessions: int = 8,
        mandate: Mandated = nobody,
    ) -> None:
        async def connect(host: Host) -> LocalLink:
            return LocalLink(host.manage, prefix(host))

        super().__init__(connect, sessions, mandate)

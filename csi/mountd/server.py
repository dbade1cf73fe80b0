"""The daemon's Unix socket. Who may connect to it can mount below the daemon's roots, so that is root alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

import structlog

from csi.core import mountcalls
from csi.core.errors import Unavailable
from csi.core.mountcalls import Fault, Misunderstood, Reply
from csi.mountd.desk import Desk

_log = structlog.get_logger(__name__)

_MODE = 0o600
_MOST_CONNECTIONS = 1024


class Server:
    """A connection that closes gives up what it asked for."""

    def __init__(self, path: str | Path, desk: Desk) -> None:
        self._path = Path(path)
        self._desk = desk
        self._server: asyncio.Server | None = None
        self._lock = -1
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises: Unavailable if the socket can't be had, or its directory lets others put something in its place."""
        try:
            self._check_directory()
            self._take()
            self._path.unlink(missing_ok=True)  # of a daemon that was killed: nobody else holds the lock
            before = os.umask(0o777 & ~_MODE)
            try:
                self._server = await asyncio.start_unix_server(self._serve, self._path)
            finally:
                os.umask(before)
        except OSError as error:
            raise Unavailable(f"mounts.socket {self._path}: {error.strerror or error}") from error

    async def stop(self, grace: float) -> None:
        """Requests that run have ``grace`` seconds; what is cut off leaves nothing. Clients stay."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            if self._connections:
                await asyncio.wait(self._connections, timeout=grace)
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
        if self._lock >= 0:
            os.close(self._lock)
        self._server, self._lock = None, -1

    def _check_directory(self) -> None:
        directory = self._path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Unavailable(
                f"mounts.socket {self._path}: its directory must belong to user {os.geteuid()} and be writable for "
                f"nobody else: 'chown {os.geteuid()} {directory}; chmod go-w {directory}'"
            )

    def _take(self) -> None:
        """Two daemons at one socket would start two clients for one mount. The kernel lets go of it when we end."""
        lock = self._path.with_name(self._path.name + ".lock")
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"mounts.socket {self._path}: another mounts daemon serves it; stop that one or name another path"
            ) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = _uid_of(writer)
        if peer not in (0, os.geteuid()) or len(self._connections) >= _MOST_CONNECTIONS:
            _log.warning("connection refused", uid=peer, connections=len(self._connections))
            writer.close()
            return
        self._connections.add(task)
        requests: set[asyncio.Task[None]] = set()
        try:
            await self._read(reader, writer, requests)
        except (EOFError, OSError):
            pass  # closed, perhaps in the middle of a frame
        except asyncio.CancelledError:
            pass  # we stop; the stream's own callback would print it as an error
        finally:
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
            self._connections.discard(task)
            writer.close()

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: set[asyncio.Task[None]]
    ) -> None:
        while True:
            try:
                size = mountcalls.length(await reader.readexactly(mountcalls.HEADER))
                document = await reader.readexactly(size)
                request = mountcalls.read_request(document)
            except Misunderstood as error:
                await _reply(writer, Reply(error.request_id, Fault(mountcalls.REFUSED, str(error))))
                continue
            except ValueError as error:
                # Not our protocol, so where the next frame begins is not known.
                await _reply(writer, Reply("", Fault(mountcalls.REFUSED, str(error))))
                return
            work = asyncio.create_task(self._answer(writer, request), name=f"request {request.id}")
            requests.add(work)
            work.add_done_callback(requests.discard)

    async def _answer(self, writer: asyncio.StreamWriter, request: mountcalls.Request) -> None:
        reply = await self._desk.answer(request)
        with suppress(OSError):
            await _reply(writer, reply)


async def _reply(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(mountcalls.frame(reply))
    await writer.drain()


def _uid_of(writer: asyncio.StreamWriter) -> int:
    connection: socket.socket = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid

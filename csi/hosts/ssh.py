"""Commands over ssh: one connection per host, host keys verified."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import structlog

from csi.core.errors import HostUnreachable
from csi.core.model import Host
from csi.hosts.gathered import GatheringConnector
from csi.hosts.mandate import Mandated, nobody
from csi.hosts.pool import ShellRunner
from csi.hosts.sessions import OPEN_TIMEOUT, Pipe, Receiver, SessionRefused

_log = structlog.get_logger(__name__)

_CLOSE_TIMEOUT = 2.0  # for a farewell that a silent host does not answer

# The fastest first: what travels here is short, and all of these are beyond doubt.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How all hosts are reached. A host's ``manage`` may name another port: ``name:port``, ``[v6]:port``."""

    user: str = "root"
    port: int = 22
    key_file: str = ""  # private key; empty: the usual ones of ~/.ssh
    known_hosts: str = ""  # empty: ~/.ssh/known_hosts
    sudo: bool = False  # shells are started by `sudo -n`
    insecure_host_keys: bool = False  # host keys are not looked at
    connect_timeout: float = 5.0  # seconds for TCP, key exchange and login together
    keepalive_interval: float = 5.0  # seconds; a connection that is silent for three of them more is given up
    sessions: int = 8  # shells and programs at once per host; sshd's MaxSessions is 10, and one is for ending others


def address(manage: str, port: int) -> tuple[str, int]:
    """Name and port of ``name``, ``name:port``, ``[v6]:port``, ``[v6]`` or a bare v6 address.

    Raises: HostUnreachable.
    """
    name, given = manage, ""
    if manage.startswith("["):
        name, bracket, given = manage[1:].partition("]")
        if not bracket or (given and not given.startswith(":")):
            raise HostUnreachable(manage, "this is not an address: write NAME, NAME:PORT or [IPv6]:PORT")
        given = given[1:]
    elif manage.count(":") == 1:
        name, _, given = manage.partition(":")
    if given and not (given.isascii() and given.isdigit() and 0 < int(given) < 65536):
        raise HostUnreachable(manage, f"{given!r} is not a port: write NAME, NAME:PORT or [IPv6]:PORT")
    return name, int(given) if given else port


class _Client(asyncssh.SSHClient):
    """Notes the end of the connection."""

    lost = False
    reason = ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.reason = f": {exc}" if exc else ""


class _Session(asyncssh.SSHClientSession[bytes]):
    """A session as asyncssh sees it, told to the receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._receiver.received(1 if datatype == asyncssh.EXTENDED_DATA_STDERR else 0, data)

    def eof_received(self) -> bool:
        self._receiver.ending()
        return False

    def exit_status_received(self, status: int) -> None:
        self._receiver.exited()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._receiver.exited()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.ended(f"the connection broke: {exc}" if exc else "the shell ended")


class _Pipe:
    def __init__(self, channel: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = channel

    def write(self, data: bytes) -> None:
        # A channel that is closing says so by an error; who writes learns it from the receiver's end.
        with contextlib.suppress(OSError):
            self._channel.write(data)

    def write_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.write_eof()

    def close(self) -> None:
        self._channel.close()


_Opening = asyncio.Task[tuple[asyncssh.SSHClientChannel[bytes], asyncssh.SSHClientSession[bytes]]]


def _abandon(opening: _Opening) -> None:
    """Close a session that came too late."""
    if not opening.cancelled() and opening.exception() is None:
        channel, _ = opening.result()
        channel.close()


class SshLink:
    """One connection."""

    def __init__(self, host: str, connection: asyncssh.SSHClientConnection, client: _Client, command: str) -> None:
        self._host = host
        self._connection = connection
        self._client = client
        self._command = command

    @property
    def alive(self) -> bool:
        return not self._client.lost

    async def start(self, receiver: Receiver) -> Pipe:
        opening: _Opening = asyncio.create_task(
            self._connection.create_session(lambda: _Session(receiver), self._command, encoding=None)
        )
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                channel, _ = await asyncio.shield(opening)
        except TimeoutError:
            opening.add_done_callback(_abandon)
            raise HostUnreachable(self._host, f"sshd opened no session within {OPEN_TIMEOUT:g} s") from None
        except asyncio.CancelledError:
            # Cancelling it would leave a session open that counts on the host and that nobody knows of.
            opening.add_done_callback(_abandon)
            raise
        except (asyncssh.Error, OSError) as error:
            if isinstance(error, asyncssh.ChannelOpenError) and self.alive:
                raise SessionRefused(f"sshd: {error}") from None
            raise HostUnreachable(self._host, f"the connection broke: {error}") from error
        return _Pipe(channel)

    async def close(self) -> None:
        self._connection.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._connection.wait_closed()
        except TimeoutError:
            self._connection.abort()
            await self._connection.wait_closed()


class SshRunner(ShellRunner):
    """``ports.Runner`` over ssh."""

    def __init__(self, settings: SshSettings, mandate: Mandated = nobody) -> None:
        self._settings = settings
        asyncssh.set_log_level("WARNING")  # at INFO it tells of every session
        if settings.insecure_host_keys:
            _log.warning(
                "host keys are NOT verified (insecure_host_keys): whoever answers at a host's address gets its commands"
            )
        super().__init__(self._link, settings.sessions, mandate)

    async def _link(self, host: Host) -> SshLink:
        settings = self._settings
        name, port = address(host.manage, settings.port)
        client = _Client()
        try:
            async with asyncio.timeout(settings.connect_timeout):
                connection = await asyncssh.connect(
                    name,
                    port,
                    tunnel=GatheringConnector(),
                    client_factory=lambda: client,
                    username=settings.user,
                    client_keys=[str(_user_path(settings.key_file))] if settings.key_file else (),
                    known_hosts=None if settings.insecure_host_keys else str(self._known_hosts()),
                    # Nothing of the environment that we happen to run in.
                    config=None,
                    agent_path=None,
                    gss_host=None,
                    x509_trusted_certs=None,
                    preferred_auth="publickey",
                    compression_algs=None,
                    encryption_algs=_CIPHERS,
                    keepalive_interval=settings.keepalive_interval,
                    keepalive_count_max=3,
                )
        except (TimeoutError, OSError, ValueError, asyncssh.Error, asyncssh.KeyImportError) as error:
            raise HostUnreachable(host.manage, self._reason(error, name, port)) from error
        return SshLink(host.manage, connection, client, "exec sudo -n /bin/sh" if settings.sudo else "exec /bin/sh")

    def _known_hosts(self) -> Path:
        return _user_path(self._settings.known_hosts or "~/.ssh/known_hosts")

    def _reason(self, error: Exception, name: str, port: int) -> str:
        """What went wrong, and what to do about it."""
        settings = self._settings
        scan = (
            f"if the host is new, compare its fingerprint with the host's own and add it:"
            f" ssh-keyscan -p {port} {name} >> {self._known_hosts()}"
        )
        match error:
            case asyncssh.HostKeyNotVerifiable():
                return f"the host key of {name} port {port} is not in {self._known_hosts()}, or is another one; {scan}"
            case asyncssh.PermissionDenied():
                key = settings.key_file or "the keys in ~/.ssh"
                return (
                    f"{name} port {port} refuses user {settings.user} with {key}: add its public key to authorized_keys"
                )
            case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
                return f"the private key {settings.key_file or 'in ~/.ssh'} cannot be used: {error}"
            case FileNotFoundError() | PermissionError() if error.filename:
                hint = f"; {scan}" if error.filename == str(self._known_hosts()) else ""
                return f"{error.filename} cannot be read: {error.strerror}{hint}"
            case TimeoutError():
                return f"no answer from {name} port {port} within {settings.connect_timeout:g} s"
            case asyncssh.Error():
                return f"{name} port {port} answers, but not as it should: {error}"
            case OSError(errno=int(errno)) if errno > 0:  # asyncio's own text has the address and not the reason
                return f"{name} port {port}: {os.strerror(errno)}"
            case _:
                return f"{name} port {port}: {error}"


def _user_path(path: str) -> Path:
    return Path(path).expanduser()

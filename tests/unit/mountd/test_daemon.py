"""The mounts daemon over clients in memory: what is asked twice, given up, refused, or asked by the wrong one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from csi.core import mountcalls
from csi.core.errors import MountFailed, Unavailable
from csi.core.mountcalls import Call, End, Fault, Reply, Request, Runs, Source, Start
from csi.mountd.desk import Desk
from csi.mountd.server import Server
from csi.mountports import MountSource
from csi.mounts.probe import Probes
from csi.mounts.remote import RemoteClients

SOURCE = Source(("a", "b"), "vol_1", 8)


class Held:
    """Clients whose start waits for ``gate``."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started: list[str] = []
        self.given_up: list[str] = []
        self.ended: list[tuple[str, str, str, bool]] = []
        self.reason = ""

    async def start(self, source: MountSource, target: str) -> None:
        self.started.append(target)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.given_up.append(target)
            raise
        if self.reason:
            raise MountFailed(self.reason)

    async def runs(self, targets: Collection[str]) -> bool:
        return bool(set(targets) & set(self.started))

    async def end(self, volume: str, target: str, device: str, *, silent: bool = False) -> None:
        self.ended.append((volume, target, device, silent))

    async def abandon(self, volume: str, target: str) -> None: ...


class Daemon:
    def __init__(self, directory: Path) -> None:
        self.root, self.socket = str(directory / "root"), directory / "run" / "mounts.sock"
        self.held = Held()

        async def resolve(target: str) -> str:
            return os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))

        self.server = Server(self.socket, Desk(self.held, [self.root], resolve))

    async def connect(self) -> Connection:
        return Connection(*await asyncio.open_unix_connection(self.socket))


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, request_id: str, call: Call, timeout: float = 10.0) -> None:
        self.writer.write(mountcalls.frame(Request(mountcalls.VERSION, request_id, timeout, call)))

    async def reply(self) -> Reply:
        size = mountcalls.length(await self.reader.readexactly(mountcalls.HEADER))
        return mountcalls.read_reply(await self.reader.readexactly(size))

    async def ask(self, call: Call, timeout: float = 10.0) -> Reply:
        self.send("r", call, timeout)
        return await self.reply()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    (tmp_path / "root").mkdir()
    daemon = Daemon(tmp_path)
    await daemon.server.start()
    yield daemon
    await daemon.server.stop(1.0)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_requests_of_one_connection_are_answered_as_they_are_done(daemon: Daemon) -> None:
    one = await daemon.connect()
    one.send("slow", Start(SOURCE, f"{daemon.root}/a"))
    one.send("fast", Runs(("/nowhere",)))
    assert await one.reply() == Reply("fast")
    daemon.held.gate.set()
    assert await one.reply() == Reply("slow")
    assert (await one.ask(Runs((f"{daemon.root}/a",)))).runs
    assert (await one.ask(End("vol_1", f"{daemon.root}/a", "0:50", True))).fault is None
    assert daemon.held.ended == [("vol_1", f"{daemon.root}/a", "0:50", True)]
    one.writer.close()


async def test_the_same_mount_is_made_once_and_given_up_by_the_last_one(daemon: Daemon) -> None:
    target = f"{daemon.root}/a"
    one, other = await daemon.connect(), await daemon.connect()
    one.send("1", Start(SOURCE, target))
    other.send("2", Start(SOURCE, target))
    await until(lambda: daemon.held.started == [target])
    one.writer.close()
    await asyncio.sleep(0.05)
    assert daemon.held.given_up == []
    other.writer.close()
    await until(lambda: daemon.held.given_up == [target])
    daemon.held.gate.set()
    again = await daemon.connect()
    assert (await again.ask(Start(SOURCE, target))).fault is None
    assert daemon.held.started == [target, target]
    again.writer.close()


async def test_a_deadline_gives_up_too(daemon: Daemon) -> None:
    one = await daemon.connect()
    reply = await one.ask(Start(SOURCE, f"{daemon.root}/a"), timeout=0.05)
    assert reply.fault is not None
    assert "within 0.05 s" in reply.fault.text
    assert daemon.held.given_up == [f"{daemon.root}/a"]
    one.writer.close()


async def test_the_reason_arrives_as_it_is(daemon: Daemon) -> None:
    daemon.held.reason = "the servers know no volume vol_1"
    daemon.held.gate.set()
    one = await daemon.connect()
    reply = await one.ask(Start(SOURCE, f"{daemon.root}/a"))
    assert reply.fault == Fault(mountcalls.FAILED, "the servers know no volume vol_1")
    one.writer.close()
    clients = RemoteClients(daemon.socket, Probes(1.0))
    with pytest.raises(MountFailed, match=r"^the servers know no volume vol_1$"):
        await clients.start(MountSource(("a",), "vol_1"), f"{daemon.root}/a")


async def test_targets_elsewhere_are_refused(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "root" / "way-out").symlink_to("/etc")
    one = await daemon.connect()
    for target in ("/etc/x", f"{daemon.root}/way-out/x", f"{daemon.root}x/y"):
        for call in (Start(SOURCE, target), End("vol_1", target, "0:50")):
            reply = await one.ask(call)
            assert reply.fault is not None
            assert reply.fault.kind == mountcalls.REFUSED
            assert "mounts.roots" in reply.fault.text
    assert not daemon.held.started
    assert not daemon.held.ended
    one.writer.close()


async def test_another_version_and_noise(daemon: Daemon) -> None:
    one = await daemon.connect()
    one.writer.write(mountcalls.frame(Request(7, "r", 1.0, Runs(()))))
    reply = await one.reply()
    assert (reply.id, reply.fault and reply.fault.kind) == ("r", mountcalls.REFUSED)
    assert (await one.ask(Runs(()))).fault is None  # the connection is still good
    one.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await one.reply()).fault is not None
    assert await one.reader.read() == b""
    one.writer.close()


async def test_only_its_owner_can_reach_it(daemon: Daemon) -> None:
    assert daemon.socket.stat().st_mode & 0o777 == 0o600
    assert daemon.socket.parent.stat().st_mode & 0o777 == 0o700


async def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.socket.parent.mkdir()
    daemon.socket.parent.chmod(0o777)
    with pytest.raises(Unavailable, match="chmod go-w"):
        await daemon.server.start()


async def test_one_daemon_at_a_socket_and_a_killed_one_is_followed(daemon: Daemon, tmp_path: Path) -> None:
    second = Daemon(tmp_path)
    with pytest.raises(Unavailable, match="another mounts daemon serves it"):
        await second.server.start()
    await second.server.stop(0)
    await daemon.server.stop(0)
    daemon.socket.touch()  # what a killed one leaves
    third = Daemon(tmp_path)
    await third.server.start()
    one = await third.connect()
    assert (await one.ask(Runs(()))).fault is None
    one.writer.close()
    await third.server.stop(0)


async def test_a_plug_in_waits_for_a_daemon_that_comes_back(daemon: Daemon, tmp_path: Path) -> None:
    clients = RemoteClients(daemon.socket, Probes(1.0), patience=5.0)
    await daemon.server.stop(0)
    asking = asyncio.create_task(clients.runs(["/a"]))
    await asyncio.sleep(0.1)
    again = Daemon(tmp_path)
    await again.server.start()
    assert not await asking
    await again.server.stop(0)
    with pytest.raises(Unavailable, match="is away"):
        await RemoteClients(daemon.socket, Probes(1.0), patience=0.1).runs(["/a"])

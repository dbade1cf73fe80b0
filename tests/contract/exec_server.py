"""What the API server says to those who run processes in pods, with this machine as the only pod.

The real one is held to the same contract where there is a real kubelet. Here the API server's part is done without
it: the list of pods, and ``exec`` over ``v5.channel.k8s.io``.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from aiohttp import WSMsgType, web

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
TOKEN = "secret-of-the-test"

PODS = [
    {
        "metadata": {"name": "gluster-0"},
        "spec": {"nodeName": "n0"},
        "status": {"phase": "Running", "podIP": "10.9.9.1"},
    },
    {"metadata": {"name": "gluster-1"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}},
    {"metadata": {"name": "twin-a"}, "spec": {"nodeName": "n2"}, "status": {"phase": "Running"}},
    {"metadata": {"name": "twin-b"}, "spec": {"nodeName": "n2"}, "status": {"phase": "Running"}},
    {"metadata": {"name": "gone"}, "spec": {"nodeName": "n3"}, "status": {"phase": "Running"}},
]


class ExecServer:
    """``deaf``: takes websockets and never starts anything. ``sessions``: how many were opened in all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.protocol = "v5.channel.k8s.io"
        self.sessions = 0
        self._sockets: set[web.WebSocketResponse] = set()

    @property
    def kubeconfig(self) -> str:
        return str(self._directory / "kubeconfig")

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/api/v1/namespaces/gluster/pods", self._list)
        application.router.add_get("/api/v1/namespaces/gluster/pods/{pod}/exec", self._exec)
        self._runner = web.AppRunner(application, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        config = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
        }
        Path(self.kubeconfig).write_text(json.dumps(config))

    async def stop(self) -> None:
        await self.cut()
        await self._runner.cleanup()

    async def cut(self) -> None:
        """Every connection to a process breaks."""
        for socket in tuple(self._sockets):
            await socket.close()

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"message": "who are you?"}, status=401)
        return web.json_response({"items": PODS})

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=403)
        if request.match_info["pod"] == "gone":
            return web.Response(status=404)
        socket = web.WebSocketResponse(protocols=(self.protocol,), max_msg_size=0)
        await socket.prepare(request)
        self.sessions += 1
        self._sockets.add(socket)
        process = await asyncio.create_subprocess_exec(
            *request.query.getall("command"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            cwd="/",
            env={},
        )
        reading = asyncio.create_task(_tell(socket, process))
        await _listen(socket, process)
        self._sockets.discard(socket)
        # As in a pod: whoever is cut off leaves the process to itself, with its input at an end.
        assert process.stdin is not None
        process.stdin.close()
        await reading
        return socket


async def _listen(socket: web.WebSocketResponse, process: Process) -> None:
    assert process.stdin is not None
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            continue
        if message.data[0] == STDIN:
            process.stdin.write(message.data[1:])
        elif message.data[:2] == bytes((CLOSE, STDIN)):
            process.stdin.close()


async def _tell(socket: web.WebSocketResponse, process: Process) -> None:
    async def relay(stream: asyncio.StreamReader | None, channel: int) -> None:
        assert stream is not None
        while data := await stream.read(1 << 16):
            if not socket.closed:
                await socket.send_bytes(bytes((channel,)) + data)

    await asyncio.gather(relay(process.stdout, STDOUT), relay(process.stderr, STDERR))
    await process.wait()
    if not socket.closed:
        await socket.send_bytes(bytes((STATUS,)) + b'{"status": "Success"}')
        await socket.close()

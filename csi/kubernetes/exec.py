"""Processes in the containers of pods: the API server's ``exec``, over a websocket.

The protocol is ``v5.channel.k8s.io`` (Kubernetes 1.30): each message begins with the number of its channel. Versions
before it can't say that the input ends without ending all else too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from csi.core.errors import Unavailable
from csi.kubernetes.api import ApiUnreachable
from csi.kubernetes.client import KubernetesApi

STDIN, STDOUT, STDERR, STATUS = range(4)
_CLOSE = 255  # followed by the channel whose end it is

_PROTOCOL = "v5.channel.k8s.io"


class ExecRefused(Unavailable):
    """``status`` is that of HTTP: 404 for a pod that is gone, 403 for a right that is missing."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Container:
    """``name`` empty: the pod's first, or the one that it names as its default."""

    namespace: str
    pod: str
    name: str = ""

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.pod}" + (f", container {self.name}" if self.name else "")


class PodProcess:
    """A process in a container, as long as the connection holds."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def write(self, data: bytes) -> None:
        """Raises: ApiUnreachable."""
        await self._send(bytes((STDIN,)) + data)

    async def end_input(self) -> None:
        """Raises: ApiUnreachable."""
        await self._send(bytes((_CLOSE, STDIN)))

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Channel and data as they come. ``STATUS`` comes when the process has ended.

        Raises: ApiUnreachable when the connection breaks.
        """
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                yield message.data[0], message.data[1:]
        if (error := self._socket.exception()) is not None:
            raise ApiUnreachable(f"the connection broke: {error}")

    async def close(self) -> None:
        """Let go of it. The process sees its input end; what it runs goes on."""
        await self._socket.close()

    async def _send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"the connection broke: {error}") from error


async def start(api: KubernetesApi, container: Container, argv: Sequence[str]) -> PodProcess:
    """Raises: ExecRefused, ApiUnreachable."""
    path = f"/api/v1/namespaces/{quote(container.namespace)}/pods/{quote(container.pod)}/exec"
    query = [("command", word) for word in argv]
    query += [(stream, "true") for stream in ("stdin", "stdout", "stderr")]
    if container.name:
        query.append(("container", container.name))
    try:
        socket = await api.websocket(path, query, _PROTOCOL)
    except aiohttp.WSServerHandshakeError as refusal:
        raise ExecRefused(refusal.status, _reason(refusal.status, container)) from refusal
    if socket.protocol != _PROTOCOL:
        await socket.close()
        raise ExecRefused(0, f"the API server does not speak {_PROTOCOL}: Kubernetes 1.30 or newer is needed")
    return PodProcess(socket)


def _reason(status: int, container: Container) -> str:
    match status:
        case 401 | 403:
            return f"exec into {container} is not allowed: give this service account 'create' on pods/exec there"
        case 404:
            return f"{container} is not there any more"
        case _:
            return f"the API server refuses exec into {container} with status {status}: is the container running?"

"""Commands in the gluster pods of a Kubernetes cluster: shells by ``exec``, where no sshd is needed.

A host's pod is looked up when it is needed first and when it is gone, since a pod that is replaced has another name. A
shell is a session of its own in its container, so it can be ended with all that it runs as over ssh.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from csi.core.errors import HostUnreachable
from csi.core.model import Host
from csi.hosts.mandate import Mandated, nobody
from csi.hosts.pool import ShellRunner
from csi.hosts.sessions import OPEN_TIMEOUT, Pipe, Receiver
from csi.kubernetes import exec as pod_exec
from csi.kubernetes.api import ApiUnreachable
from csi.kubernetes.client import KubernetesApi
from csi.kubernetes.exec import STATUS, STDERR, STDOUT, Container, ExecRefused, PodProcess

HOST_LABEL = "csi.gluster.org/host"
"""A pod with this label is that host's, whatever its name and node."""


@dataclass(frozen=True, slots=True)
class KubeSettings:
    """Which pods are Gluster hosts. A host's ``manage`` is the pod's label, name, node or address."""

    namespace: str
    selector: str = ""  # of labels; empty: any pod of the namespace
    container: str = ""  # empty: the pod's default
    sessions: int = 8  # shells and programs at once per host


class _Metadata(msgspec.Struct):
    name: str
    labels: dict[str, str] = {}
    deletionTimestamp: str = ""  # noqa: N815 - here and below the name is the wire's


class _Spec(msgspec.Struct):
    nodeName: str = ""  # noqa: N815


class _Status(msgspec.Struct):
    phase: str = ""
    podIP: str = ""  # noqa: N815
    hostIP: str = ""  # noqa: N815


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec
    status: _Status

    @property
    def runs(self) -> bool:
        return self.status.phase == "Running" and not self.metadata.deletionTimestamp

    @property
    def names(self) -> set[str]:
        labelled = self.metadata.labels.get(HOST_LABEL, "")
        return {self.metadata.name, labelled, self.spec.nodeName, self.status.podIP, self.status.hostIP} - {""}


class _Pods(msgspec.Struct):
    items: list[_Pod]


_DECODER = msgspec.json.Decoder(_Pods)


class _Pipe:
    """What is written goes out in order, by a task of its own, since a pipe never waits."""

    def __init__(self, process: PodProcess, receiver: Receiver) -> None:
        self._process = process
        self._receiver = receiver
        self._unsent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks = (asyncio.create_task(self._send()), asyncio.create_task(self._receive()))
        self._closing: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        self._unsent.put_nowait(data)

    def write_eof(self) -> None:
        self._unsent.put_nowait(None)

    def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def closed(self) -> None:
        self.close()
        assert self._closing is not None
        await self._closing

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._process.close()

    async def _send(self) -> None:
        try:
            while True:
                data = await self._unsent.get()
                await (self._process.end_input() if data is None else self._process.write(data))
        except ApiUnreachable:
            return  # ``_receive`` tells

    async def _receive(self) -> None:
        reason = "the shell ended"
        try:
            async for channel, data in self._process.output():
                if channel in (STDOUT, STDERR):
                    self._receiver.received(channel - STDOUT, data)
                elif channel == STATUS:
                    self._receiver.exited()
        except ApiUnreachable as broken:
            reason = str(broken)
        self._receiver.ended(reason)


class KubeLink:
    """The way into one pod."""

    def __init__(self, host: str, api: KubernetesApi, container: Container) -> None:
        self._host = host
        self._api = api
        self._container = container
        self._pipes: set[_Pipe] = set()
        self.alive = True

    async def start(self, receiver: Receiver) -> Pipe:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                process = await pod_exec.start(self._api, self._container, ("/bin/sh",))
        except TimeoutError:
            raise HostUnreachable(self._host, f"{self._container} took no shell within {OPEN_TIMEOUT:g} s") from None
        except (ExecRefused, ApiUnreachable) as error:
            # Another pod may have its place now: the next connection looks for it.
            self.alive = not isinstance(error, ExecRefused)
            raise HostUnreachable(self._host, str(error)) from error
        pipe = _Pipe(process, receiver)
        self._pipes.add(pipe)
        return pipe

    async def close(self) -> None:
        self.alive = False
        await asyncio.gather(*(pipe.closed() for pipe in self._pipes))


class KubeRunner(ShellRunner):
    """``ports.Runner`` over the API server. It closes ``api`` with itself."""

    def __init__(self, api: KubernetesApi, settings: KubeSettings, mandate: Mandated = nobody) -> None:
        self._api = api
        self._settings = settings
        super().__init__(self._link, settings.sessions, mandate)

    async def close(self) -> None:
        await super().close()
        await self._api.close()

    async def _link(self, host: Host) -> KubeLink:
        settings = self._settings
        query = {"labelSelector": settings.selector} if settings.selector else {}
        try:
            answer = await self._api.request("GET", f"/api/v1/namespaces/{settings.namespace}/pods", query)
        except ApiUnreachable as error:
            raise HostUnreachable(host.manage, str(error)) from error
        if not answer.good:
            raise HostUnreachable(
                host.manage, f"the pods of namespace {settings.namespace} can't be listed: {answer.reason}"
            )
        pods = _DECODER.decode(answer.body).items
        found = [pod for pod in pods if host.manage in pod.names and pod.runs]
        if len(found) == 1:
            return KubeLink(
                host.manage, self._api, Container(settings.namespace, found[0].metadata.name, settings.container)
            )
        which = f"in namespace {settings.namespace}" + (f" with {settings.selector}" if settings.selector else "")
        if found:
            names = ", ".join(sorted(pod.metadata.name for pod in found))
            raise HostUnreachable(host.manage, f"{len(found)} running pods {which} are of this name: {names}")
        raise HostUnreachable(
            host.manage,
            f"no running pod {which} has this name, node or address, or the label {HOST_LABEL}={host.manage}",
        )

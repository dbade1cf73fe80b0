"""Telling the kubelet of this node plug-in, without a sidecar for it.

The kubelet watches a directory (``plugins_registry``). For a socket that appears there it asks who that is, calls
NodeGetInfo at the endpoint it is told, and says how that went; when the socket goes, it forgets the plug-in. After a
restart it looks at what is in the directory. So all it takes is a socket that is there exactly while we serve: one that
somebody removed, or that the kubelet never took up, is made anew. What it refused it tries again by itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from csi import tasks
from csi.api import pluginregistration_pb2 as pb
from csi.api import pluginregistration_pb2_grpc as rpc
from csi.core.errors import Unavailable
from csi.driver.server import Server

_log = structlog.get_logger(__name__)

_TYPE = "CSIPlugin"
_VERSIONS = ("1.0.0",)  # of CSI, as the kubelet counts them: all of CSI 1.x


class RegistrationService(rpc.RegistrationServicer):
    """What the kubelet asks. ``endpoint``: the path of the CSI socket as the kubelet sees it."""

    def __init__(self, driver_name: str, endpoint: str) -> None:
        self._driver_name = driver_name
        self._endpoint = endpoint
        self.registered = False

    async def GetInfo(  # noqa: N802 - here and below the name is the wire's
        self, request: pb.InfoRequest, context: object
    ) -> pb.PluginInfo:
        return pb.PluginInfo(
            type=_TYPE, name=self._driver_name, endpoint=self._endpoint, supported_versions=list(_VERSIONS)
        )

    async def NotifyRegistrationStatus(  # noqa: N802
        self, request: pb.RegistrationStatus, context: object
    ) -> pb.RegistrationStatusResponse:
        self.registered = request.plugin_registered
        if self.registered:
            _log.info("the kubelet has registered the node plug-in", endpoint=self._endpoint)
        else:
            _log.error("the kubelet refused the node plug-in", endpoint=self._endpoint, reason=request.error)
        return pb.RegistrationStatusResponse()


@dataclass(frozen=True, slots=True)
class Watch:
    """Seconds: between two looks at the socket, and until a kubelet that has not registered us is asked anew."""

    interval: float = 2.0
    patience: float = 60.0


class Registration:
    """``start`` when the CSI socket is served, ``stop`` before it goes."""

    def __init__(self, directory: Path, driver_name: str, endpoint: str, watch: Watch | None = None) -> None:
        self._path = directory / f"{driver_name}-reg.sock"
        self._service = RegistrationService(driver_name, endpoint)
        self._watch = watch or Watch()
        self._server: Server | None = None
        self._identity = (0, 0)
        self._offered = 0.0
        self._watching: asyncio.Task[None] | None = None

    @property
    def registered(self) -> bool:
        """What the kubelet said last."""
        return self._service.registered

    async def start(self) -> None:
        """Raises: Unavailable if the socket can't be had."""
        await self._offer()
        self._watching = asyncio.create_task(self._keep(), name="registration")

    async def stop(self) -> None:
        """Take the socket away, at which the kubelet forgets the plug-in."""
        if self._watching is not None:
            await tasks.end([self._watching])
        await self._withdraw()

    async def _offer(self) -> None:
        self._service.registered = False
        server = Server(f"unix://{self._path}")
        server.add_registration(self._service)
        await server.start()
        self._server = server
        self._identity = self._seen() or (0, 0)
        self._offered = asyncio.get_running_loop().time()

    async def _withdraw(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(0)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._watch.interval)
            reason = self._wrong()
            if not reason:
                continue
            _log.warning("the node plug-in offers itself to the kubelet anew", socket=str(self._path), reason=reason)
            # Ours first: a server that stops removes whatever is at its path then.
            await self._withdraw()
            try:
                await self._offer()
            except Unavailable as error:  # the directory is gone, or another process was faster: look again later
                _log.warning("the registration socket can't be had", error=str(error))

    def _wrong(self) -> str:
        if self._server is None:
            return "it is not served"
        if self._seen() != self._identity:
            return "the socket was removed or replaced"
        waited = asyncio.get_running_loop().time() - self._offered
        if not self.registered and waited > self._watch.patience:
            return (
                f"the kubelet has not registered it for {waited:.0f} s; "
                "is node.registration_dir its plugins_registry, node.kubelet_socket the path as it sees it?"
            )
        return ""

    def _seen(self) -> tuple[int, int] | None:
        try:
            found = self._path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

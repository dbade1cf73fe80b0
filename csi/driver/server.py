"""The gRPC server on its Unix socket: services, health, and a graceful end.

The socket's mode is its only protection: whoever can connect can make and destroy volumes.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from csi.api import admin_pb2_grpc, csi_pb2_grpc, pluginregistration_pb2_grpc
from csi.core.errors import ConfigInvalid, Unavailable
from csi.driver.calls import Calls

_SCHEME = "unix://"
_LONGEST_PATH = 105  # bytes; the kernel's sun_path has 107, of which gRPC keeps two (measured with 1.85)
_MODE = 0o600


class Server:
    """Add services, ``start``, and ``stop`` once."""

    def __init__(self, endpoint: str) -> None:
        """Raises: ConfigInvalid for an endpoint that can't be one."""
        self._path = _socket_path(endpoint)
        self.serving = False
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(interceptors=[Calls()])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add_identity(self, service: csi_pb2_grpc.IdentityServicer) -> None:
        csi_pb2_grpc.add_IdentityServicer_to_server(service, self._server)

    def add_controller(self, service: csi_pb2_grpc.ControllerServicer) -> None:
        csi_pb2_grpc.add_ControllerServicer_to_server(service, self._server)

    def add_group_controller(self, service: csi_pb2_grpc.GroupControllerServicer) -> None:
        csi_pb2_grpc.add_GroupControllerServicer_to_server(service, self._server)

    def add_node(self, service: csi_pb2_grpc.NodeServicer) -> None:
        csi_pb2_grpc.add_NodeServicer_to_server(service, self._server)

    def add_admin(self, service: admin_pb2_grpc.AdminServicer) -> None:
        admin_pb2_grpc.add_AdminServicer_to_server(service, self._server)

    def add_registration(self, service: pluginregistration_pb2_grpc.RegistrationServicer) -> None:
        pluginregistration_pb2_grpc.add_RegistrationServicer_to_server(service, self._server)

    async def start(self) -> None:
        """Raises: Unavailable if the socket can't be had."""
        await _check_free(self._path)
        # gRPC makes the socket itself, with a mode that follows the umask: never open to others, not for a moment.
        before = os.umask(0o777 & ~_MODE)
        try:
            self._server.add_insecure_port(f"{_SCHEME}{self._path}")
        except RuntimeError as error:
            raise Unavailable(f"endpoint {self._path}: the socket can't be made: {error}") from error
        finally:
            os.umask(before)
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.serving = True

    async def stop(self, grace: float) -> None:
        """Take no new calls, give those that run ``grace`` seconds, and remove the socket."""
        self.serving = False
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


def _socket_path(endpoint: str) -> Path:
    path = endpoint.removeprefix(_SCHEME)
    problem = ""
    if not path.startswith("/"):
        problem = "must be unix:///absolute/path.sock"
    elif len(path.encode()) > _LONGEST_PATH:
        problem = f"has a path of {len(path.encode())} bytes; a Unix socket can have {_LONGEST_PATH} at most"
    if problem:
        raise ConfigInvalid([f"endpoint {endpoint!r} {problem}"])
    return Path(path)


async def _check_free(path: Path) -> None:
    """gRPC replaces a socket without asking, even one that another process serves."""
    try:
        mode = path.lstat().st_mode  # noqa: ASYNC240 - at start, on a local path
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise Unavailable(f"endpoint {path}: the directory {path.parent} does not exist; make it") from None
        return
    except OSError as error:
        raise Unavailable(f"endpoint {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise Unavailable(f"endpoint {path}: a file that is not a socket is there; remove it or name another path")
    if await _is_listened_to(path):
        raise Unavailable(f"endpoint {path}: another process serves it; stop that one or name another path")


async def _is_listened_to(path: Path) -> bool:
    """False for a socket that a killed process left behind."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), 2.0)
    except TimeoutError:
        return True  # somebody is there, too busy to take the connection
    except OSError:
        return False
    writer.close()
    return True

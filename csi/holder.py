"""The composition root of ``gluster-csi mounts``, the daemon that holds the GlusterFS clients.

Apart from ``app.py`` because it needs few of the parts: it is back soon after a crash, and small on every node.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack

import structlog

from csi import log
from csi.mountd.desk import Desk
from csi.mountd.server import Server
from csi.mounts import blocking, directories
from csi.mounts.detached import DetachedClients
from csi.mounts.probe import Probes
from csi.settings import Settings

_log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Hold GlusterFS clients until SIGTERM or SIGINT; they live on.

    Raises: Unavailable (the socket can't be had).
    """
    log.configure(settings.log.level, settings.log.format)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    probes = Probes(settings.node.stat_timeout)
    clients = DetachedClients(settings.node.log_dir, probes, settings.node.mount_timeout)

    async def resolve(target: str) -> str:
        return await blocking.promptly(lambda: directories.resolve(target), settings.node.stat_timeout)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(probes.close)
        daemon = Server(settings.mounts.socket, Desk(clients, settings.mounts.roots.split(":"), resolve))
        stack.push_async_callback(daemon.stop, settings.shutdown.grace)
        await daemon.start()
        _log.info("serving", role="mounts", socket=settings.mounts.socket, roots=settings.mounts.roots)
        await stop.wait()
        _log.info("stopping", grace=settings.shutdown.grace)

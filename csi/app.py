"""The composition root: the one module that knows every part, and puts them together for a role.

``serve`` runs the controller's and the node's services in one process, ``controller`` and ``node`` one of them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from csi import __version__, config, log, metrics
from csi.bricks.file import FileBackend
from csi.clock import SystemClock
from csi.config import Settings
from csi.core import topologyfile
from csi.core.model import Backend
from csi.core.placement import Limits
from csi.driver import admin, server
from csi.driver.admin import AdminService
from csi.driver.controller import ControllerService
from csi.driver.health import HealthPort
from csi.driver.identity import IdentityService
from csi.driver.node import NodeService
from csi.driver.registration import Registration
from csi.gluster.adapter import GlusterCli, GlusterSettings
from csi.hosts.local import LocalRunner
from csi.hosts.ssh import SshRunner, SshSettings
from csi.mounts.detached import DetachedClients
from csi.mounts.glusterfs import GlusterMounter
from csi.mounts.probe import Probes
from csi.mounts.remote import RemoteClients
from csi.mounts.servers import ServersFile
from csi.mounts.staged import StagedFiles
from csi.ports import BrickBackend, Clients, Clock, Gluster, Runner, Store
from csi.service.adoption import Adoption
from csi.service.journal import Journal
from csi.service.operations import Operations
from csi.service.presence import Presence
from csi.service.publish import Publisher
from csi.service.recovery import Pace, Recovery
from csi.service.steps import Steps
from csi.service.topology import Progress, Topology
from csi.service.volumes import Volumes
from csi.service.watch import Watch
from csi.store.sqlite import SqliteStore

_log = structlog.get_logger(__name__)


class Role(StrEnum):
    SERVE = "serve"
    CONTROLLER = "controller"
    NODE = "node"

    @property
    def controls(self) -> bool:
        return self is not Role.NODE

    @property
    def mounts(self) -> bool:
        return self is not Role.CONTROLLER


@dataclass(frozen=True, slots=True)
class Outside:
    """What the controller acts through. Tests put other parts here."""

    store: Store
    runner: Runner
    gluster: Gluster
    backends: Mapping[Backend, BrickBackend]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Core:
    """The controller's services, wired."""

    outside: Outside
    operations: Operations
    volumes: Volumes
    recovery: Recovery
    topology: Topology
    adoption: Adoption


def reach(settings: Settings) -> Outside:
    """The real outside world that the settings describe."""
    clock = SystemClock()
    over_ssh = settings.hosts.runner == "ssh"
    runner: Runner = SshRunner(SshSettings(**settings.ssh.model_dump())) if over_ssh else LocalRunner()
    timing = GlusterSettings(**settings.gluster.model_dump())
    return Outside(
        store=SqliteStore(settings.state.path),
        runner=runner,
        gluster=GlusterCli(runner, clock, timing),
        backends={Backend.FILE: FileBackend(runner, settings.instance, settings.bricks.fstab)},
        clock=clock,
    )


def wire(outside: Outside, settings: Settings) -> Core:
    """The controller's object graph. Does nothing yet."""
    journal = Journal(outside.store, outside.clock, settings.gids.rest_seconds)
    steps = Steps(outside.gluster, outside.backends, settings.instance, lambda: outside.store.inventory)
    adoption = Adoption(outside.gluster, outside.backends, settings.instance, lambda: outside.store.inventory)
    operations = Operations()
    limits = Limits(
        min_brick=settings.placement.min_brick,
        max_brick=settings.placement.max_brick,
        max_bricks=settings.placement.max_bricks,
    )
    presence = Presence(outside.runner, outside.clock)
    volumes = Volumes(journal, steps, adoption, operations, presence=presence, limits=limits)
    pace = Pace(settings.recovery.interval, settings.recovery.grace, settings.recovery.first, settings.recovery.longest)
    recovery = Recovery(journal, volumes, operations, outside.clock, pace)
    topology = Topology(outside.store, outside.gluster, outside.backends, adoption, settings.instance)
    return Core(outside, operations, volumes, recovery, topology, adoption)


def settings_for(role: Role, config_file: Path | None, environ: Mapping[str, str]) -> Settings:
    """The whole configuration, checked for the role. Raises: ConfigInvalid with every problem."""
    settings = config.load(config_file, environ)
    settings.check(role.value)
    return settings


async def run(role: Role, settings: Settings, outside: Outside | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop gracefully.

    Raises: StateUnusable, ConfigInvalid, Unavailable (the socket can't be had).
    """
    log.configure(settings.log.level, settings.log.format)
    for warning in settings.warnings:
        _log.warning(warning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        edge = server.Server(settings.endpoint)
        identity = IdentityService(settings.driver_name, __version__, zones=settings.topology.zones)
        edge.add_identity(identity)
        if settings.health.listen:
            conditions = {"serving": lambda: edge.serving, "acting": lambda: identity.ready}
            health = HealthPort(settings.health.listen, conditions)
            await health.start()
            stack.push_async_callback(health.stop)
        if role.controls:
            core = wire(outside or reach(settings), settings)
            await open_core(core, stack, settings)
            edge.add_controller(ControllerService(core.volumes))
            edge.add_admin(AdminService(core.topology))
            stack.callback(metrics.watch(core.outside.store, core.operations))
        if role.mounts:
            publisher = _publisher(settings)
            await publisher.resume()
            stack.push_async_callback(publisher.stop, settings.shutdown.grace)
            watch = Watch(publisher, SystemClock(), settings.node.watch_interval)
            stack.push_async_callback(_ended, asyncio.create_task(watch.run(), name="watch"))
            edge.add_node(NodeService(publisher, settings.node_id, settings.node.zone))
        if settings.metrics.listen:
            stack.callback(metrics.serve(settings.metrics.listen))
        await edge.start()
        stack.push_async_callback(edge.stop, settings.shutdown.grace)
        identity.ready = True
        if role.mounts and settings.node.registration_dir is not None:
            registration = _registration(settings, settings.node.registration_dir)
            await registration.start()
            stack.push_async_callback(registration.stop)
        _log.info("serving", role=role.value, endpoint=settings.endpoint, driver=settings.driver_name)
        await stop.wait()
        _log.info("stopping", grace=settings.shutdown.grace)
        identity.ready = False


async def open_core(core: Core, stack: AsyncExitStack, settings: Settings) -> None:
    """Open the state, start recovery; the stack closes both, running operations first."""
    await core.outside.store.open()
    stack.push_async_callback(core.outside.store.close)
    stack.push_async_callback(core.outside.runner.close)
    stack.push_async_callback(core.outside.gluster.close)
    stack.push_async_callback(core.operations.stop, settings.shutdown.grace)
    if settings.topology.file is not None:
        document = await asyncio.to_thread(Path(settings.topology.file).read_bytes)
        async for progress in core.topology.load(topologyfile.parse(document)):
            (_log.error if progress.failed else _log.info)("topology", line=progress.line)
    recovering = asyncio.create_task(core.recovery.run(), name="recovery")

    stack.push_async_callback(_ended, recovering)


async def load_topology(settings: Settings, file: Path) -> AsyncIterator[Progress]:
    """Through the driver that runs on this machine, or by opening its state if none does."""
    document = await asyncio.to_thread(file.read_bytes)
    if await admin.is_served(settings.endpoint):
        async for progress in admin.load_topology(settings.endpoint, document):
            yield progress
        return
    log.configure("warning", "text")
    core = wire(reach(settings), settings)
    async with AsyncExitStack() as stack:
        await core.outside.store.open()
        stack.push_async_callback(core.outside.store.close)
        stack.push_async_callback(core.outside.runner.close)
        stack.push_async_callback(core.outside.gluster.close)
        async for progress in core.topology.load(topologyfile.parse(document)):
            yield progress


def _registration(settings: Settings, directory: Path) -> Registration:
    endpoint = settings.node.kubelet_socket or settings.endpoint.removeprefix("unix://")
    return Registration(directory, settings.driver_name, str(endpoint))


def _publisher(settings: Settings) -> Publisher:
    node = settings.node
    probes = Probes(node.stat_timeout)
    clients: Clients = (
        RemoteClients(node.mounts_socket, probes, node.mount_timeout)
        if node.mounts_socket
        else DetachedClients(node.log_dir, probes, node.mount_timeout)
    )
    return Publisher(
        GlusterMounter(clients, probes),
        servers=ServersFile(node.servers_cache, settings.node_id),
        staged=StagedFiles(node.staged_dir),
        notices=log.LoggedNotices(),
    )


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""The composition root: the one module that knows every part, and puts them together for a role.

``serve`` runs the controller's and the node's services in one process, ``controller`` and ``node`` one of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
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
from csi.core.errors import StateUnusable
from csi.core.inventory import Inventory
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
from csi.kubernetes.api import KubernetesApi
from csi.leadership import Leadership
from csi.mounts.glusterfs import GlusterMounter
from csi.ports import BrickBackend, Clock, Gluster, Put, Runner, Store
from csi.service.adoption import Adoption
from csi.service.journal import Journal
from csi.service.operations import Operations
from csi.service.presence import Presence
from csi.service.publish import Publisher
from csi.service.recovery import Pace, Recovery
from csi.service.steps import Steps
from csi.service.topology import Progress, Topology
from csi.service.volumes import Volumes
from csi.store import archive
from csi.store.kube import KubeStore, snapshot
from csi.store.sqlite import SqliteStore

_log = structlog.get_logger(__name__)

# Records in one commit of an import: no caller waits too long for one.
_IMPORTED_AT_ONCE = 100


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
    term: Callable[[], int] = lambda: 0  # of this controller, where several stand by


@dataclass(frozen=True, slots=True)
class Core:
    """The controller's services, wired."""

    outside: Outside
    operations: Operations
    volumes: Volumes
    recovery: Recovery
    topology: Topology
    adoption: Adoption


def reach(settings: Settings, leadership: Leadership | None = None) -> Outside:
    """The real outside world that the settings describe; with ``leadership``, it can be acted on while that lasts."""
    clock = SystemClock()
    over_ssh = settings.hosts.runner == "ssh"
    runner: Runner = SshRunner(SshSettings(**settings.ssh.model_dump())) if over_ssh else LocalRunner()
    if leadership is not None:
        runner = leadership.gated(runner)
    timing = GlusterSettings(**settings.gluster.model_dump())
    return Outside(
        store=_store(settings, leadership),
        runner=runner,
        gluster=GlusterCli(runner, clock, timing),
        backends={Backend.FILE: FileBackend(runner, settings.instance, settings.bricks.fstab)},
        clock=clock,
        term=leadership.term if leadership is not None else lambda: 0,
    )


def _store(settings: Settings, leadership: Leadership | None) -> Store:
    if settings.state.backend == "sqlite":
        return SqliteStore(settings.state.path)
    api = KubernetesApi(settings.kubernetes.kubeconfig)
    return KubeStore(api) if leadership is None else KubeStore(api, permit=leadership.permit)


def wire(outside: Outside, settings: Settings) -> Core:
    """The controller's object graph. Does nothing yet."""
    journal = Journal(outside.store, outside.clock, settings.gids.rest_seconds, outside.term)
    steps = Steps(outside.gluster, outside.backends, settings.instance, lambda: outside.store.inventory, outside.term)
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


async def run(  # noqa: C901 - the order of a start, in one place
    role: Role, settings: Settings, outside: Outside | None = None
) -> None:
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
        identity = IdentityService(settings.driver_name, __version__)
        edge.add_identity(identity)
        if settings.health.listen:
            conditions = {"serving": lambda: edge.serving, "acting": lambda: identity.ready}
            health = HealthPort(settings.health.listen, conditions)
            await health.start()
            stack.push_async_callback(health.stop)
        leadership, core = None, None
        if role.controls:
            leadership = _leadership(settings)
            core = wire(outside or reach(settings, leadership), settings)
            edge.add_controller(ControllerService(core.volumes))
            edge.add_admin(AdminService(core.topology))
        if role.mounts:
            publisher = _publisher(settings)
            stack.push_async_callback(publisher.stop, settings.shutdown.grace)
            edge.add_node(NodeService(publisher, settings.node_id))
        if settings.metrics.listen:
            stack.callback(metrics.serve(settings.metrics.listen))
        if leadership is not None:
            # A standby answers that it is not ready, so that its sidecars wait.
            await edge.start()
            stack.push_async_callback(edge.stop, 0)
        if core is not None and not await _take_charge(core, leadership, stack, settings, stop):
            return
        if leadership is None:
            await edge.start()
        stack.push_async_callback(edge.stop, settings.shutdown.grace)
        identity.ready = True
        if role.mounts and settings.node.registration_dir is not None:
            registration = _registration(settings, settings.node.registration_dir)
            await registration.start()
            stack.push_async_callback(registration.stop)
        _log.info("serving", role=role.value, endpoint=settings.endpoint, driver=settings.driver_name)
        try:
            await (stop.wait() if leadership is None else leadership.serve(stop))
        finally:
            _log.info("stopping", grace=settings.shutdown.grace)
            identity.ready = False


async def _take_charge(
    core: Core, leadership: Leadership | None, stack: AsyncExitStack, settings: Settings, stop: asyncio.Event
) -> bool:
    """Returns when this process may act, with its state open; False if it was stopped before."""
    if leadership is not None:
        _log.info("standing by", lease=settings.kubernetes.lease)
        if not await leadership.lead(stack, stop):
            return False
    await open_core(core, stack, settings)
    stack.callback(metrics.watch(core.outside.store, core.operations))
    return True


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

    async def end_recovery() -> None:
        recovering.cancel()
        await asyncio.gather(recovering, return_exceptions=True)

    stack.push_async_callback(end_recovery)


async def load_topology(settings: Settings, file: Path) -> AsyncIterator[Progress]:
    """Through the driver that runs on this machine, or by opening its state if none does."""
    document = await asyncio.to_thread(file.read_bytes)
    if await admin.is_served(settings.endpoint):
        async for progress in admin.load_topology(settings.endpoint, document):
            yield progress
        return
    log.configure("warning", "text")
    async with AsyncExitStack() as stack:
        core = wire(reach(settings, await _alone(settings, stack)), settings)
        await core.outside.store.open()
        stack.push_async_callback(core.outside.store.close)
        stack.push_async_callback(core.outside.runner.close)
        stack.push_async_callback(core.outside.gluster.close)
        async for progress in core.topology.load(topologyfile.parse(document)):
            yield progress


def _registration(settings: Settings, directory: Path) -> Registration:
    endpoint = settings.node.kubelet_socket or settings.endpoint.removeprefix("unix://")
    return Registration(directory, settings.driver_name, str(endpoint))


async def export_state(settings: Settings, file: Path) -> int:
    """Write all records to a new file; how many. Custom resources can be exported while controllers run."""
    log.configure("warning", "text")
    if settings.state.backend == "kubernetes":
        api = KubernetesApi(settings.kubernetes.kubeconfig)
        try:
            inventory = Inventory.of((await snapshot.load(api)).records)
        finally:
            await api.close()
    else:
        store = _store(settings, None)
        await store.open()
        inventory = store.inventory
        await store.close()
    await asyncio.to_thread(_write_whole, file, b"".join(archive.write(inventory)))
    return sum(1 for _ in inventory.records())


async def import_state(settings: Settings, file: Path) -> int:
    """Put the records of an exported file into an empty state; how many.

    Raises: StateUnusable if the file is not whole, or the state is not empty.
    """
    log.configure("warning", "text")
    lines = (await asyncio.to_thread(file.read_bytes)).splitlines()
    records = archive.read(lines, str(file))
    async with AsyncExitStack() as stack:
        store = _store(settings, await _alone(settings, stack))
        await store.open()
        stack.push_async_callback(store.close)
        if next(store.inventory.records(), None) is not None:
            raise StateUnusable("the state holds records already: import into an empty one only")
        for start in range(0, len(records), _IMPORTED_AT_ONCE):
            await store.commit([Put(record) for record in records[start : start + _IMPORTED_AT_ONCE]])
    return len(records)


def _write_whole(file: Path, content: bytes) -> None:
    """A file of that name is always whole."""
    new = file.with_name(file.name + ".new")
    new.touch(mode=0o600)
    with new.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)


def _leadership(settings: Settings) -> Leadership | None:
    return Leadership(settings) if settings.state.backend == "kubernetes" else None


async def _alone(settings: Settings, stack: AsyncExitStack) -> Leadership | None:
    """For what is done once, beside the services: while it runs, no controller acts.

    Raises: StateUnusable if one does.
    """
    leadership = _leadership(settings)
    if leadership is not None:
        try:
            async with asyncio.timeout(settings.kubernetes.lease_seconds + 2 * settings.kubernetes.retry_seconds):
                await leadership.lead(stack, asyncio.Event())
        except TimeoutError:
            raise StateUnusable(
                f"lease {settings.kubernetes.lease} is held by a controller that runs: scale the controllers to 0 first"
            ) from None
    return leadership


def _publisher(settings: Settings) -> Publisher:
    return Publisher(GlusterMounter(settings.node.log_dir, settings.node.mount_timeout, settings.node.stat_timeout))

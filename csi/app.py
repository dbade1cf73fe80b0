"""The composition root: the one module that knows every part, and puts them together for a role.

``serve`` runs the controller's and the node's services in one process, ``controller`` and ``node`` one of them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from csi import __version__, config, log, metrics, tasks
from csi.bricks.filecopies import FileCopies
from csi.bricks.lvmcopies import LvmCopies
from csi.clock import SystemClock
from csi.config import Settings
from csi.core import topologyfile
from csi.core.model import Backend
from csi.corewiring import Core, Outside, wire
from csi.driver import server
from csi.driver.admin import AdminService
from csi.driver.controller import ControllerService
from csi.driver.groupcontroller import GroupControllerService
from csi.driver.health import HealthPort
from csi.driver.identity import IdentityService
from csi.driver.node import NodeService
from csi.gluster.adapter import GlusterCli, GlusterSettings
from csi.groups.keeper import GroupKeeper
from csi.hosts.contacts import Contacts, HeardRunner
from csi.hosts.local import LocalRunner
from csi.hosts.mandate import Mandate, Mandated
from csi.kubernetes.api import Api
from csi.kubernetes.events import ClaimEvents, Events
from csi.manifests.keeper import ManifestKeeper
from csi.nodewiring import publisher_of, registration_of
from csi.ports import ClaimNotices, Runner, Store
from csi.service.succession import nobody
from csi.service.watch import Watch
from csi.status.writer import StatusWriter
from csi.store.kube import KubeStore
from csi.store.sqlite import SqliteStore

# What reaches over ssh, and to an API server, is imported where it is known to be needed: each brings libraries that
# take a second and tens of MiB, and a node reaches no hosts, a pool without Kubernetes no API server.
if TYPE_CHECKING:
    from csi.leadership import Leadership

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


def reach(settings: Settings, leadership: Leadership | None = None) -> Outside:
    """The real outside world that the settings describe; with ``leadership``, it can be acted on while that lasts."""
    clock = SystemClock()
    runner = _runner(settings, lambda: mandate_of(settings, leadership))
    if leadership is not None:
        runner = leadership.gated(runner)
    contacts = Contacts()
    runner = HeardRunner(runner, contacts)
    timing = GlusterSettings(**settings.gluster.model_dump())
    return Outside(
        store=store_of(settings, leadership),
        runner=runner,
        gluster=GlusterCli(runner, clock, timing, heard=contacts),
        backends={
            Backend.FILE: FileCopies(runner, settings.instance, settings.bricks.fstab),
            Backend.LVM: LvmCopies(runner, settings.instance, settings.bricks.fstab),
        },
        clock=clock,
        term=leadership.term if leadership is not None else lambda: settings.hosts.term,
        tell=leadership.tell if leadership is not None else nobody,
        contacts=contacts,
        permit=leadership.permit if leadership is not None else lambda: None,
    )


def mandate_of(settings: Settings, leadership: Leadership | None) -> Mandate:
    """In whose name hosts are told to act."""
    if leadership is None:
        return Mandate(settings.instance, settings.hosts.term)
    return Mandate(settings.instance, leadership.term(), leadership.holder)


def _runner(settings: Settings, mandate: Mandated) -> Runner:
    match settings.hosts.runner:
        case "ssh":
            from csi.hosts.ssh import SshRunner, SshSettings  # noqa: PLC0415

            return SshRunner(SshSettings(**settings.ssh.model_dump()), mandate)
        case "kube":
            from csi.hosts.kube import KubeRunner, KubeSettings  # noqa: PLC0415
            from csi.kubernetes.client import KubernetesApi  # noqa: PLC0415

            api = KubernetesApi(settings.kubernetes.kubeconfig)
            return KubeRunner(api, KubeSettings(**settings.kube_hosts.model_dump()), mandate)
        case "local":
            return LocalRunner(mandate=mandate)


def store_of(settings: Settings, leadership: Leadership | None) -> Store:
    """Where the records are; with ``leadership``, they can be written while that lasts."""
    if settings.state.backend == "sqlite":
        return SqliteStore(settings.state.path)
    api = _connect(settings)
    return KubeStore(api) if leadership is None else KubeStore(api, permit=leadership.permit)


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
        identity = IdentityService(settings.driver_name, __version__, zones=settings.topology.zones)
        edge.add_identity(identity)
        if settings.health.listen:
            conditions = {"serving": lambda: edge.serving, "acting": lambda: identity.ready}
            health = HealthPort(settings.health.listen, conditions)
            await health.start()
            stack.push_async_callback(health.stop)
        leadership, core = None, None
        if role.controls:
            leadership = leadership_of(settings)
            core = wire(outside or reach(settings, leadership), settings)
            _add_control(edge, core, _claim_notices(settings, stack))
        if role.mounts:
            api = api_of(settings, stack) if settings.state.backend == "kubernetes" else None
            publisher, publications = publisher_of(settings, api, _events(api, settings) if api is not None else None)
            await publisher.resume()
            stack.push_async_callback(publisher.stop, settings.shutdown.grace)
            watch = Watch(publisher, SystemClock(), settings.node.watch_interval)
            stack.push_async_callback(tasks.end, [asyncio.create_task(watch.run(), name="watch")])
            edge.add_node(NodeService(publisher, settings.node_id, settings.node.zone, publications))
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
            registration = registration_of(settings, settings.node.registration_dir)
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
    _keep_groups(settings, stack)
    if isinstance(core.outside.store, KubeStore):
        api = api_of(settings, stack)
        keep_resources(core, core.outside.store, api, _events(api, settings), stack)
    store, pools = core.outside.store, core.fullness
    stack.push_async_callback(tasks.end, [asyncio.create_task(pools.run(), name="thin pools")])
    stack.callback(metrics.watch(store, core.operations, lambda: core.succession.late, pools.figures, pools.taken))
    return True


async def open_core(core: Core, stack: AsyncExitStack, settings: Settings) -> None:
    """Open the state, start recovery; the stack closes both, running operations first."""
    core.succession.begin()
    if isinstance(core.outside.store, KubeStore):
        core.outside.store.ask_hosts(core.succession.steps.remains)
    await core.outside.store.open()
    stack.push_async_callback(core.outside.store.close)
    stack.push_async_callback(core.outside.runner.close)
    stack.push_async_callback(core.outside.gluster.close)
    stack.push_async_callback(core.operations.stop, settings.shutdown.grace)
    if settings.topology.file is not None:
        document = await asyncio.to_thread(Path(settings.topology.file).read_bytes)
        async for progress in core.topology.load(topologyfile.parse(document)):
            (_log.error if progress.failed else _log.info)("topology", line=progress.line)
    store = core.outside.store
    visiting = asyncio.create_task(core.succession.visit(lambda: store.inventory), name="visit")
    stack.push_async_callback(tasks.end, [visiting])
    recovering = asyncio.create_task(core.recovery.run(), name="recovery")
    stack.push_async_callback(tasks.end, [recovering])


def _add_control(edge: server.Server, core: Core, notices: ClaimNotices | None) -> None:
    edge.add_controller(ControllerService(core.volumes, core.expansion, core.modification, core.snapshots, notices))
    edge.add_group_controller(GroupControllerService(core.snapshots))
    edge.add_admin(AdminService(core.topology))


def _claim_notices(settings: Settings, stack: AsyncExitStack) -> ClaimNotices | None:
    if settings.state.backend != "kubernetes":
        return None
    return ClaimEvents(_events(api_of(settings, stack), settings))


def _keep_groups(settings: Settings, stack: AsyncExitStack) -> None:
    if settings.state.backend == "kubernetes" and settings.gids.annotate:
        api = api_of(settings, stack)
        keeper = GroupKeeper(api, _events(api, settings), settings.driver_name)
        stack.push_async_callback(tasks.end, [asyncio.create_task(keeper.run(), name="groups")])


def keep_resources(core: Core, store: KubeStore, api: Api, events: Events, stack: AsyncExitStack) -> None:
    """Take up what people write, and tell them of the records, until the stack ends it."""
    outside = core.outside
    status = StatusWriter(api, store, events, contacts=outside.contacts, clock=outside.clock, permit=outside.permit)
    keeper = ManifestKeeper(api, store, core.topology, status, events, clock=outside.clock, permit=outside.permit)
    store.listen(status.heed)
    core.fullness.listen(status.heed_pools)
    store.listen(keeper.heed)
    outside.contacts.listen(status.heed_contact)
    for name, work in (("status", status.run()), ("manifests", keeper.run())):
        stack.push_async_callback(tasks.end, [asyncio.create_task(work, name=name)])


def api_of(settings: Settings, stack: AsyncExitStack) -> Api:
    """A way to the API server that ends with the stack."""
    api = _connect(settings)
    stack.push_async_callback(api.close)
    return api


def _connect(settings: Settings) -> Api:
    from csi.kubernetes.client import KubernetesApi  # noqa: PLC0415

    return KubernetesApi(settings.kubernetes.kubeconfig)


def _events(api: Api, settings: Settings) -> Events:
    return Events(api, settings.driver_name)


def leadership_of(settings: Settings) -> Leadership | None:
    """None where no other controller can have the same state."""
    if settings.state.backend != "kubernetes":
        return None
    from csi.leadership import Leadership  # noqa: PLC0415

    return Leadership(settings)

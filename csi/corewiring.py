"""The controller's services, put together over whatever is outside: the real world, or what tests make of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from csi.bricks.lvm import LvmBackend
from csi.config import Settings
from csi.core.model import Backend, OperationKind
from csi.core.placement import Limits
from csi.core.pools import Autoextend, PoolLimit, Refusing
from csi.gluster.regrouping import FilesOnHosts
from csi.hosts.contacts import Contacts
from csi.ports import BrickBackend, Clock, Gluster, Runner, Store
from csi.service.adoption import Adoption
from csi.service.changing import Changing
from csi.service.copying import Copying
from csi.service.expansion import Expansion
from csi.service.extending import Extending
from csi.service.fullness import Fullness
from csi.service.journal import Journal
from csi.service.modification import Modification
from csi.service.operations import Operations
from csi.service.placing import Placing
from csi.service.presence import Presence
from csi.service.recovery import Pace, Recovery
from csi.service.regrouping import Regrouping
from csi.service.restoring import Restoring, Turns
from csi.service.snapshots import Snapshots
from csi.service.steps import Steps
from csi.service.succession import Succession, nobody
from csi.service.topology import Topology
from csi.service.volumes import Volumes


@dataclass(frozen=True, slots=True)
class Outside:
    """What the controller acts through. Tests put other parts here."""

    store: Store
    runner: Runner
    gluster: Gluster
    backends: Mapping[Backend, BrickBackend]
    clock: Clock
    term: Callable[[], int] = lambda: 0  # of this controller, where several stand by
    tell: Callable[[str], Awaitable[None]] = nobody  # people, of what an earlier controller's command did late
    contacts: Contacts = field(default_factory=Contacts)  # with the hosts
    permit: Callable[[], None] = lambda: None  # raises when this process must not write


@dataclass(frozen=True, slots=True)
class Core:
    """The controller's services, wired."""

    outside: Outside
    operations: Operations
    volumes: Volumes
    snapshots: Snapshots
    recovery: Recovery
    topology: Topology
    adoption: Adoption
    succession: Succession
    expansion: Expansion
    modification: Modification
    fullness: Fullness


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
    presence = Presence(outside.runner, outside.clock, outside.contacts)
    succession = Succession(
        steps, presence, outside.clock, settings.recovery.settle, term=outside.term, tell=outside.tell
    )
    gauge, bricks = LvmBackend(outside.runner, settings.instance), settings.bricks
    pool_limit = PoolLimit(bricks.pool_limit, Refusing(bricks.pool_refusing))
    fullness = Fullness(gauge, outside.clock, outside.store, bricks.pool_interval, pool_limit)
    placing = Placing(journal, presence, limits, fullness)
    copying = Copying(steps, outside.clock, settings.snapshots.bound)
    turns = Turns(operations, outside.clock)
    restoring = Restoring(copying, turns)
    restoring.join(steps.further, steps.back)
    limit = settings.snapshots.per_volume
    snapshots = Snapshots(journal, copying, operations, placing=placing, turns=turns, limit=limit)
    changing = Changing(journal, steps, operations)
    regrouping = Regrouping(changing, FilesOnHosts(outside.runner), outside.clock)
    regrouping.join(steps.further)
    volumes = Volumes(
        *(journal, steps, adoption, operations),
        placing=placing,
        succession=succession,
        restoring=restoring,
        regrouping=regrouping,
    )
    pace = Pace(settings.recovery.interval, settings.recovery.grace, settings.recovery.first, settings.recovery.longest)
    expansion, modification = Expansion(changing, placing), Modification(changing, placing)
    rule = Autoextend(pool_limit, bricks.pool_autoextend_threshold, bricks.pool_autoextend_percent)
    fullness.then(Extending(changing, placing, rule).look)
    others = {
        OperationKind.EXPAND: changing.resume,
        OperationKind.MODIFY: changing.resume,
        OperationKind.EXTEND: changing.resume,
        OperationKind.REGROUP: changing.resume,
        OperationKind.HEAL: changing.watch,
        OperationKind.REBALANCE: changing.watch,
    }
    recovery = Recovery(
        journal, volumes, snapshots, operations, outside.clock, succession=succession, pace=pace, others=others
    )
    topology = Topology(outside.store, outside.gluster, outside.backends, adoption, settings.instance)
    return Core(
        *(outside, operations, volumes, snapshots, recovery, topology, adoption, succession, expansion, modification),
        fullness=fullness,
    )

"""``/metrics``: what the state holds, computed when it is asked for, next to what the calls count themselves.

Nothing here is kept: a gauge that is derived from the records at each scrape can't drift from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from csi import __version__
from csi.core.errors import ConfigInvalid, Unavailable
from csi.core.inventory import Inventory
from csi.core.model import DeviceId, Direction, OperationKind, VolumeState
from csi.ports import Store
from csi.service.fullness import Measured
from csi.service.operations import Operations

Pools = Callable[[], Sequence[Measured]]
Taken = Callable[[], Mapping[DeviceId, int]]


class StateCollector(Collector):
    """Runs in the scraper's thread; that is safe, since an inventory is an immutable value."""

    def __init__(
        self, store: Store, operations: Operations, late: Callable[[], int], pools: Pools, taken: Taken
    ) -> None:
        self._store = store
        self._pools = pools
        self._taken = taken
        self._late = late
        self._operations = operations

    def describe(self) -> list[GaugeMetricFamily]:
        """None: so that registering does not collect from a store that is not open yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        inventory = self._store.inventory
        version = GaugeMetricFamily("gluster_csi_info", "The version that runs.", labels=["version"])
        version.add_metric([__version__], 1)
        yield version
        yield from _volumes(inventory)
        yield from _operations(inventory)
        yield GaugeMetricFamily(
            "gluster_csi_operations_running", "Operations that are being worked on now.", value=len(self._operations)
        )
        yield CounterMetricFamily(
            "gluster_csi_late_effects",
            "How often a command of an earlier controller took effect late, and was undone.",
            value=self._late(),
        )
        yield from _devices(inventory.counting(self._taken()))
        yield _thin_pools(self._pools())


def watch(
    store: Store,
    operations: Operations,
    late: Callable[[], int] = lambda: 0,
    pools: Pools = lambda: (),
    taken: Taken = dict,
    *,
    registry: CollectorRegistry = REGISTRY,
) -> Callable[[], None]:
    """Export the state from now on; the answer ends that.

    ``late``: see ``service/succession.py``; ``taken``: ``service/fullness.py``.
    """
    collector = StateCollector(store, operations, late, pools, taken)
    registry.register(collector)
    return lambda: registry.unregister(collector)


def serve(listen: str, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Serve ``/metrics`` at ``HOST:PORT`` (no HOST: on all addresses); the answer ends that.

    Raises: ConfigInvalid, Unavailable if the port can't be had.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ConfigInvalid([f"metrics.listen {listen!r} must be HOST:PORT or :PORT"])
    try:
        server, thread = start_http_server(int(port), host.strip("[]") or "::", registry)
    except OSError as error:
        raise Unavailable(f"metrics.listen {listen}: {error.strerror or error}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    return stop


def _volumes(inventory: Inventory) -> Iterator[GaugeMetricFamily]:
    counts: Counter[VolumeState] = Counter()
    sizes: Counter[VolumeState] = Counter()
    for volume in inventory.volumes.values():
        counts[volume.state] += 1
        sizes[volume.state] += volume.size
    number = GaugeMetricFamily("gluster_csi_volumes", "Volumes in the state.", labels=["state"])
    total = GaugeMetricFamily("gluster_csi_volume_bytes", "Sizes of the volumes together.", labels=["state"])
    for state in VolumeState:
        number.add_metric([state.value], counts[state])
        total.add_metric([state.value], sizes[state])
    yield number
    yield total
    yield GaugeMetricFamily(
        "gluster_csi_gids_resting", "GIDs that wait before they are given out again.", value=len(inventory.resting)
    )


def _operations(inventory: Inventory) -> Iterator[GaugeMetricFamily]:
    """Open ones, also those that wait for a host: a number that stays above zero wants a look."""
    counts = Counter((one.kind, one.direction) for one in inventory.operations.values())
    number = GaugeMetricFamily(
        "gluster_csi_operations_open", "Operations in the journal.", labels=["kind", "direction"]
    )
    for kind, direction in product(OperationKind, Direction):
        number.add_metric([kind.value, direction.value], counts[kind, direction])
    yield number
    failing = sum(1 for one in inventory.operations.values() if one.error)
    yield GaugeMetricFamily(
        "gluster_csi_operations_failing", "Operations in the journal whose last try failed.", value=failing
    )
    started = [one.started for one in inventory.operations.values()]
    yield GaugeMetricFamily(
        "gluster_csi_oldest_operation_start_seconds",
        "When the oldest operation in the journal began, in seconds since the epoch; 0 without one.",
        value=min(started, default=0.0),
    )


def _devices(inventory: Inventory) -> Iterator[GaugeMetricFamily]:
    labels = ["host", "device"]
    total = GaugeMetricFamily("gluster_csi_device_bytes", "What bricks may use of a device.", labels=labels)
    free = GaugeMetricFamily("gluster_csi_device_free_bytes", "What is left for new bricks.", labels=labels)
    for device in inventory.devices.values():
        names = [inventory.hosts[device.host_id].manage, device.path]
        total.add_metric(names, device.total)
        free.add_metric(names, inventory.free(device))
    yield total
    yield free


def _thin_pools(pools: Sequence[Measured]) -> GaugeMetricFamily:
    used = GaugeMetricFamily(
        "gluster_csi_thin_pool_used_ratio",
        "How much of a thin pool is taken, 0 to 1; brick and volume are the first of those in it.",
        labels=["host", "device", "pool", "brick", "volume", "part"],
    )
    for one in pools:
        for part, percent in (("data", one.pool.data), ("metadata", one.pool.metadata)):
            names = [one.host, one.device, one.pool.name, one.pool.bricks[0], one.pool.volumes[0], part]
            used.add_metric(names, percent / 100)
    return used

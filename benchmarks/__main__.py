"""``make bench``: every figure as a ratio or against its limit, in one run. Arguments pick parts: pool copies
lvm scale fill store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from csi import log

if TYPE_CHECKING:
    from benchmarks.pool import Row

console = Console(highlight=False, width=110)


def _verdict(good: bool) -> str:
    return "[green]good[/]" if good else "[red]OVER[/]"


def _show_against(title: str, theirs: str, rows: Sequence[Row]) -> bool:
    from benchmarks.pool import shown

    table = Table(title=f"{title} (ms: median, least–most)")
    for column in ("what", "ours", theirs, "ratio", "limit", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    for row in rows:
        figures = (shown(row.ours), shown(row.plain), f"{row.ratio:.3f}", f"{row.limit:g}")
        table.add_row(row.what, *figures, _verdict(row.ratio <= row.limit))
    console.print(table)
    return all(row.ratio <= row.limit for row in rows)


def show_pool() -> bool:
    from benchmarks import pool

    return _show_against("against the plain shell, real pool", "plain shell", pool.measure())


def show_lvm() -> bool:
    from benchmarks import lvm
    from tests.lab import vm

    if not vm.inside():
        good, load = lvm.in_the_virtual_machine()
        console.print(load)
        return good
    return _show_against("real LVM, in the virtual machine", "plain shell, gluster", lvm.measure())


def show_scale() -> bool:
    from benchmarks import scale

    points, spin = scale.measure()
    least = min(point.p50 for point in points)
    table = Table(title="(e) CreateVolume over simulated hosts without latency: p50 ≤ 5 ms, flat within 2×")
    for column in ("devices", "volumes", "p50 ms", "÷ least", ""):
        table.add_column(column, justify="right")
    for point in points:
        good = point.p50 <= 5 and point.p50 <= 2 * least
        ratio = f"{point.p50 / least:.2f}"
        table.add_row(f"{point.devices:,}", f"{point.volumes:,}", f"{point.p50:.2f}", ratio, _verdict(good))
    console.print(table)
    console.print(f"meanwhile a turn of an empty Python loop took {spin:.0f} ns on this machine")
    return all(point.p50 <= 5 and point.p50 <= 2 * least for point in points)


def show_fill() -> bool:
    from benchmarks import fill

    return fill.show(console)


def show_store() -> bool:
    from benchmarks import store

    sqlite, kube = store.measure()
    table = Table(title="the store: SQLite and custom resources; real API server, simulated hosts, 10,000 volumes")
    for column in ("what", "SQLite", "custom resources", "ratio", "limit", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    good = kube.create <= store.SLOWER * sqlite.create, kube.ready <= store.READY, kube.memory <= store.MEMORY
    rows = (
        ("create, p50 ms", sqlite.create, kube.create, f"{store.SLOWER:g}×", _verdict(good[0])),
        ("create, p95 ms", sqlite.slow_create, kube.slow_create, "", ""),
        ("create in a row, p50 ms", sqlite.in_a_row, kube.in_a_row, "", ""),
        ("start until ready, s", sqlite.ready, kube.ready, f"{store.READY:g} s", _verdict(good[1])),
        ("memory, peak MiB", sqlite.memory, kube.memory, f"{store.MEMORY:g} MiB", _verdict(good[2])),
    )
    for what, ours, theirs, limit, verdict in rows:
        table.add_row(what, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}", limit, verdict)
    console.print(table)
    return all(good)


def show_copies() -> bool:
    from benchmarks import copies

    return copies.show(console, _verdict)


PARTS = {
    "pool": show_pool,
    "copies": show_copies,
    "lvm": show_lvm,
    "scale": show_scale,
    "fill": show_fill,
    "store": show_store,
}


def main() -> int:
    log.configure("critical", "text")
    chosen = sys.argv[1:] or list(PARTS)
    verdicts = [PARTS[part]() for part in chosen]  # every part is shown, whatever the first one says
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

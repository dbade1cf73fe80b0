"""What ``pvs``, ``vgs``, ``lvs`` and ``vgdisplay -c`` of a simulated host print.

Fields, their order and their form are those of LVM 2.03.16 (``tests/recorded/lvm``). ``data_percent`` follows the
simulated file systems; ``metadata_percent`` is that of a pool that is nearly empty, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from csi.hosts.simulated.lvm import (
    EXTENT,
    PhysicalVolume,
    RefusedByLvm,
    ThinPool,
    ThinVolume,
    VolumeGroup,
    VolumeManager,
)

Sizes = Callable[[int], str]
Row = dict[str, str]

_METADATA_PERCENT = 10.45
UNITS = ("b", "k", "m", "g", "t")
_NUMBERS = [
    "pv_size",
    "pv_free",
    "pe_start",
    "dev_size",
    "pv_count",
    "lv_count",
    "snap_count",
    "vg_size",
    "vg_free",
    "vg_extent_size",
    "vg_extent_count",
    "vg_free_count",
    "lv_size",
    "data_percent",
    "metadata_percent",
    "thin_count",
    "lv_metadata_size",
    "chunk_size",
    "copy_percent",
]

DEFAULT_FIELDS = {
    "pv": ["pv_name", "vg_name", "pv_fmt", "pv_attr", "pv_size", "pv_free"],
    "vg": ["vg_name", "pv_count", "lv_count", "snap_count", "vg_attr", "vg_size", "vg_free"],
    "lv": [
        "lv_name",
        "vg_name",
        "lv_attr",
        "lv_size",
        "pool_lv",
        "origin",
        "data_percent",
        "metadata_percent",
        "move_pv",
        "mirror_log",
        "copy_percent",
        "convert_lv",
    ],
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a report is printed. ``fields``: those that were asked for, or the usual ones."""

    kind: str
    fields: tuple[str, ...]
    json: bool


def sizes_in(unit: str, *, suffix: bool) -> Sizes:
    """``unit`` is one of ``UNITS``."""
    power = UNITS.index(unit)
    end = (unit if power else "B") if suffix else ""
    return lambda size: f"{size / (1 << 10 * power):.2f}{end}" if power else f"{size}{end}"


def printed(layout: Layout, rows: Iterable[Row]) -> str:
    table = [[(name, row[name]) for name in layout.fields] for row in rows]
    if layout.json:
        lines = ["{" + ", ".join(f'"{name}":"{value}"' for name, value in row) + "}" for row in table]
        body = ",\n".join(f"                  {line}" for line in lines)
        head = f'  {{\n      "report": [\n          {{\n              "{layout.kind}": [\n'
        return f"{head}{body}{chr(10) if body else ''}              ]\n          }}\n      ]\n  }}\n"
    widths = [max((len(row[place][1]) for row in table), default=0) for place in range(len(layout.fields))]
    return "".join(
        "  "
        + " ".join(
            value.rjust(width) if name in _NUMBERS else value.ljust(width)
            for (name, value), width in zip(row, widths, strict=True)
        )
        + "\n"
        for row in table
    )


# --- rows -------------------------------------------------------------------------------------


def of_physical(volume: PhysicalVolume, sizes: Sizes) -> Row:
    group = volume.group
    # Extents have no place on a volume here: what is allocated lies on the first volumes of the group.
    total = volume.total * EXTENT if group else volume.device.size
    return {
        "pv_name": volume.device.path,
        "pv_uuid": volume.uuid,
        "vg_name": group.name if group else "",
        "pv_fmt": "lvm2",
        "pv_attr": "a--" if group else "---",
        "pv_size": sizes(total),
        "pv_free": sizes(total - _taken_of(volume, group) * EXTENT if group else total),
        "pe_start": sizes(volume.start),
        "dev_size": sizes(volume.device.size),
    }


def _taken_of(volume: PhysicalVolume, group: VolumeGroup) -> int:
    before = sum(other.total for other in group.devices[: group.devices.index(volume)])
    return max(0, min(volume.total, group.allocated - before))


def of_group(group: VolumeGroup, sizes: Sizes) -> Row:
    return {
        "vg_name": group.name,
        "vg_uuid": group.uuid,
        "vg_attr": "wz--n-",
        "vg_size": sizes(group.total * EXTENT),
        "vg_free": sizes(group.free * EXTENT),
        "vg_extent_size": sizes(EXTENT),
        "vg_extent_count": str(group.total),
        "vg_free_count": str(group.free),
        "vg_tags": _tags(group.tags),
        "pv_count": str(len(group.devices)),
        "lv_count": str(len(group.volumes) + len(group.pools)),
        "snap_count": "0",  # thin ones are not counted
    }


def _tags(tags: set[str]) -> str:
    return ",".join(sorted(tags))


def of_volumes(manager: VolumeManager, group: VolumeGroup, sizes: Sizes) -> dict[str, Row]:
    """The rows of a group by name, in LVM's order; a hidden volume's ``lv_name`` is in brackets."""
    rows = {volume.name: _volume(manager, group, volume, sizes) for volume in group.volumes.values()}
    for pool in group.pools.values():
        rows[pool.name] = _pool(group, pool, sizes)
        data, metadata = f"{pool.name}_tdata", f"{pool.name}_tmeta"
        state = "ao" if pool.active else "--"
        rows[data] = _hidden(group, data, f"Twi-{state}----", pool.data, sizes)
        rows[metadata] = _hidden(group, metadata, f"ewi-{state}----", pool.metadata, sizes)
    if group.spare:
        rows["lvol0_pmspare"] = _hidden(group, "lvol0_pmspare", "ewi-------", group.spare, sizes)
    return dict(sorted(rows.items()))


def _blank(group: VolumeGroup, name: str, size: int, sizes: Sizes) -> Row:
    empty = (
        "pool_lv origin data_percent metadata_percent lv_tags thin_count lv_metadata_size lv_path lv_active move_pv "
        "mirror_log copy_percent convert_lv lv_skip_activation"
    )
    return dict.fromkeys(empty.split(), "") | {
        "lv_name": name,
        "vg_name": group.name,
        "lv_size": sizes(size * EXTENT),
        "chunk_size": sizes(0),
        "lv_dm_path": group.names_of(name)[0],
    }


def _hidden(group: VolumeGroup, name: str, attributes: str, size: int, sizes: Sizes) -> Row:
    active = "active" if attributes[4] == "a" else ""
    return _blank(group, name, size, sizes) | {"lv_name": f"[{name}]", "lv_attr": attributes, "lv_active": active}


def _volume(manager: VolumeManager, group: VolumeGroup, volume: ThinVolume, sizes: Sizes) -> Row:
    used = volume.device.filesystem.used if volume.device.filesystem else 0
    state = ("a" if volume.active else "-") + ("o" if manager.in_use(volume.device) else "-")
    return _blank(group, volume.name, volume.size, sizes) | {
        "lv_attr": f"Vwi-{state}tz-{'k' if volume.skip else '-'}",
        "lv_path": group.names_of(volume.name)[1],
        "lv_active": "active" if volume.active else "",
        "pool_lv": volume.pool.name,
        "origin": volume.origin,
        "data_percent": f"{100 * used / volume.device.size:.2f}" if volume.active else "",
        "lv_tags": _tags(volume.tags),
        "lv_skip_activation": "skip activation" if volume.skip else "",
    }


def _pool(group: VolumeGroup, pool: ThinPool, sizes: Sizes) -> Row:
    volumes = group.volumes_of(pool)
    state = ("ao" if volumes else "a-") if pool.active else "--"
    return _blank(group, pool.name, pool.data, sizes) | {
        "lv_attr": f"twi-{state}tz--",
        "lv_active": "active" if pool.active else "",
        "data_percent": f"{100 * pool.space.used / pool.space.capacity:.2f}" if pool.active else "",
        "metadata_percent": f"{_METADATA_PERCENT + 100 * pool.metadata_used / (pool.metadata * EXTENT):.2f}"
        if pool.active
        else "",
        "lv_tags": _tags(pool.tags),
        "thin_count": str(len(volumes)),
        "lv_metadata_size": sizes(pool.metadata * EXTENT),
        "chunk_size": sizes(pool.chunk),
    }


# --- which ones -------------------------------------------------------------------------------


def physical_rows(manager: VolumeManager, wanted: Sequence[str], sizes: Sizes) -> tuple[list[Row], list[str]]:
    """Of the named devices, or of all; and what is said of those that are none."""
    rows, said = [], []
    for path in wanted or sorted(manager.physical):
        device = manager.blocks.get(path)
        found = manager.physical.get(device.path) if device else None
        if found is not None:
            rows.append(of_physical(found, sizes))
        elif device is None:
            said.append(f"Cannot use {path}: device not found")
        elif manager.groups:
            said.append(f"No physical volume label read from {path}.")
        else:
            said.append(f'Failed to find physical volume "{path}".')
    return rows, said


def group_rows(manager: VolumeManager, wanted: Sequence[str], sizes: Sizes) -> tuple[list[Row], list[str]]:
    """Of the groups that are named or carry a tag (``@TAG``), or of all; and what is said of those that are none."""
    rows: dict[str, Row] = {}
    said: list[str] = []
    for name in wanted or sorted(manager.groups):
        try:
            found = _tagged(manager.groups, name) if name.startswith("@") else [manager.group(name)]
        except RefusedByLvm as refusal:
            said += refusal.lines
            continue
        rows |= {group.name: of_group(group, sizes) for group in found}
    return list(rows.values()), said


def _tagged(groups: Mapping[str, VolumeGroup], tag: str) -> list[VolumeGroup]:
    return [groups[name] for name in sorted(groups) if tag[1:] in groups[name].tags]


def volume_rows(
    manager: VolumeManager, wanted: Sequence[str], sizes: Sizes, *, hidden: bool
) -> tuple[list[Row], list[str]]:
    """Of the volumes VG/LV, in a VG or with an @TAG, or of all; and what is said of those that are none."""
    rows: list[Row] = []
    said: list[str] = []
    for word in wanted or sorted(manager.groups):
        if word.startswith("@"):
            every = [row for name in sorted(manager.groups) for row in _of(manager, name, sizes, hidden)]
            rows += [row for row in every if word[1:] in row["lv_tags"].split(",")]
            continue
        name, _, volume = word.partition("/")
        try:
            group = manager.group(name)
            if volume:
                group.find(volume)
        except RefusedByLvm as refusal:
            said += refusal.lines
            continue
        rows += [of_volumes(manager, group, sizes)[volume]] if volume else _of(manager, name, sizes, hidden)
    return rows, said


def _of(manager: VolumeManager, name: str, sizes: Sizes, hidden: bool) -> list[Row]:
    rows = of_volumes(manager, manager.groups[name], sizes).values()
    return [row for row in rows if hidden or not row["lv_name"].startswith("[")]


def colons(manager: VolumeManager, group: VolumeGroup) -> str:
    """The line of ``vgdisplay -c``: KiB of an extent, total, allocated and free extents are fields 12 to 15."""
    volumes = len(group.volumes) + len(group.pools)
    mounted = sum(manager.in_use(volume.device) for volume in group.volumes.values())
    devices = len(group.devices)
    return (
        f"  {group.name}:r/w:772:-1:0:{volumes}:{mounted}:-1:0:{devices}:{devices}:{group.total * EXTENT >> 10}:"
        f"{EXTENT >> 10}:{group.total}:{group.allocated}:{group.free}:{group.uuid}\n"
    )

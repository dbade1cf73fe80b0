"""``lvcreate``, ``lvchange``, ``lvextend``, ``lvresize`` and ``lvremove`` of simulated hosts."""

from __future__ import annotations

from csi.hosts.simulated.lvm import (
    EXTENT,
    NAME,
    RefusedByLvm,
    ThinPool,
    ThinVolume,
    VolumeGroup,
    extents,
    readable,
)
from csi.hosts.simulated.lvm_call import ANSWERED, Call, UnknownUse

_POOL_CHUNKS = 254 << 20  # what the largest metadata of a thin pool can address


def lvcreate(call: Call) -> None:
    name, tags = call.value("name"), call.tags("addtag")
    if not NAME.fullmatch(name):
        raise RefusedByLvm(
            f'Logical volume name "{name}" is invalid.', "Run `lvcreate --help' for more information.", status=3
        )
    group, other = call.group_and_name()
    if call.has("snapshot"):
        pool = _snapshot(call, group, other, name, tags)
    elif call.has("size"):
        size = _rounded(call, "size")
        virtual = _rounded(call, "virtualsize")
        pool = _pool(call, group, other, size)
        # The tags of a call that makes both are the pool's; the volume has none.
        pool.tags |= tags
        call.changed = True
        call.manager.make_volume(group, pool, name, virtual)
    else:
        pool = _present_pool(call, group, other)
        call.manager.make_volume(group, pool, name, _rounded(call, "virtualsize")).tags |= tags
    call.changed = True
    _tell_promises(call, group, pool)
    call.say(f'Logical volume "{name}" created.')


def _present_pool(call: Call, group: VolumeGroup, name: str) -> ThinPool:
    if not call.has("thin"):
        raise UnknownUse
    if name in group.volumes:
        raise RefusedByLvm(f"Logical volume {group.name}/{name} is not a thin pool.")
    if name not in group.pools:
        raise RefusedByLvm(f"Pool {name} not found in Volume group {group.name}.")
    return group.pools[name]


def _rounded(call: Call, option: str) -> int:
    size = call.size(option)[1]
    if size % EXTENT:
        call.say(f"Rounding up size to full physical extent {readable(extents(size) * EXTENT)}")
    return extents(size)


def _pool(call: Call, group: VolumeGroup, name: str, data: int) -> ThinPool:
    metadata, chunk = call.size("poolmetadatasize")[1], call.size("chunksize")[1]
    if not call.has("thin"):
        raise UnknownUse
    if name not in group.pools and name not in group.volumes:
        call.say(
            f"Thin pool volume with chunk size {readable(chunk)} can address at most "
            f"{readable(chunk * _POOL_CHUNKS)} of data."
        )
    return call.manager.make_pool(group, name, data, extents(metadata), chunk)


def _snapshot(call: Call, group: VolumeGroup, origin: str, name: str, tags: set[str]) -> ThinPool:
    source = group.volumes.get(origin)
    if origin in group.pools:
        raise RefusedByLvm("Please specify either size or extents with snapshots.")
    if source is None:
        raise RefusedByLvm(f"Snapshot origin LV {origin} not found in Volume group {group.name}.")
    skip = not call.has("setactivationskip") or call.value("setactivationskip") == "y"
    call.manager.snapshot(group, source, name, skip=skip, tags=tags)
    return source.pool


def _tell_promises(call: Call, group: VolumeGroup, pool: ThinPool, *, named: bool = True) -> None:
    """LVM warns, and goes on, when thin volumes together are larger than what there is for them."""
    promised = sum(volume.size for volume in group.volumes.values())
    pools = sum(each.data for each in group.pools.values())
    if sum(volume.size for volume in group.volumes_of(pool)) <= pool.data or promised <= pools:
        return
    if promised > group.total:
        more, size = " and the size of whole volume group", group.total
    elif promised > group.free:
        more, size = " and the amount of free space in volume group", group.free
    else:
        more, size = "", pools
    which = f"pool {group.name}/{pool.name}" if named and len(group.pools) == 1 else "pools"
    call.complain(
        f"WARNING: Sum of all thin volume sizes ({readable(promised * EXTENT)}) exceeds the size of thin {which}{more} "
        f"({readable(size * EXTENT)})."
    )
    call.say("WARNING: You have not turned on protection against thin pools running out of space.")
    call.say(
        "WARNING: Set activation/thin_pool_autoextend_threshold below 100 to trigger automatic extension of thin pools "
        "before they get full."
    )


# --- changing and removing volumes ------------------------------------------------------------


def lvchange(call: Call) -> None:
    """Tags, or activation. One with the flag "skip activation" stays inactive without -K, and the status is 0."""
    added, removed = call.tags("addtag"), call.tags("deltag")
    group, name = call.group_and_name()
    found = group.find(name)
    if added or removed:
        found.tags = (found.tags | added) - removed
        call.changed = True
        call.say(f"Logical volume {group.name}/{name} changed.")
        return
    if not isinstance(found, ThinVolume) or call.value("activate") not in ("y", "n"):
        raise UnknownUse
    if call.value("activate") == "n":
        call.manager.deactivate(group, found)
    elif call.has("ignoreactivationskip") or not found.skip:
        call.manager.activate(group, found)


def lvextend(call: Call) -> None:
    _resize(call, may_shrink=False)


def lvresize(call: Call) -> None:
    _resize(call, may_shrink=True)


def _resize(call: Call, *, may_shrink: bool) -> None:
    group, name = call.group_and_name()
    found = group.volumes.get(name) or group.pools.get(name)
    if found is None:
        raise RefusedByLvm(f"Logical volume {name} not found in volume group {group.name}.")
    if call.has("poolmetadatasize"):
        relative, size = call.size("poolmetadatasize")
        if not isinstance(found, ThinPool) or not relative:
            raise UnknownUse
        growth, before, part = extents(size), found.metadata, f"{name}_tmeta"
        more = _growth(call, f"{group.name}/{name}", found, found.data, may_shrink=False) if call.has("size") else 0
        call.manager.grow_pool(group, found, more, growth)
        pool, resized = found, part
    elif isinstance(found, ThinPool):
        before, part = found.data, f"{name}_tdata"
        growth = _growth(call, f"{group.name}/{name}", found, before, may_shrink=may_shrink)
        call.manager.grow_pool(group, found, growth, 0)
        pool, resized = found, name
    else:
        before, part = found.size, name
        growth = _growth(call, f"{group.name}/{name}", found, before, may_shrink=may_shrink)
        call.manager.grow_volume(found, growth)
        pool, resized = found.pool, name
    call.changed = True
    call.say(
        f"Size of logical volume {group.name}/{part} changed from {readable(before * EXTENT)} ({before} extents) to "
        f"{readable((before + growth) * EXTENT)} ({before + growth} extents)."
    )
    # Of metadata that grew, LVM does not see which pool it belongs to.
    _tell_promises(call, group, pool, named=not call.has("poolmetadatasize"))
    call.say(f"Logical volume {group.name}/{resized} successfully resized.")


def _growth(call: Call, full_name: str, found: ThinPool | ThinVolume, before: int, *, may_shrink: bool) -> int:
    """The extents to add. Raises: RefusedByLvm if it is no growth."""
    relative, size = call.size("size")
    if size % EXTENT:
        call.say(f"Rounding size to boundary between physical extents: {readable(extents(size) * EXTENT)}.")
    wanted = extents(size) + (before if relative else 0)
    if wanted == before:
        raise RefusedByLvm(f"New size ({wanted} extents) matches existing size ({before} extents).")
    if wanted > before:
        return wanted - before
    if not may_shrink:
        raise RefusedByLvm(f"New size given ({wanted} extents) not larger than existing size ({before} extents)")
    if isinstance(found, ThinPool):
        raise RefusedByLvm(f"Thin pool volumes {full_name}_tdata cannot be reduced in size yet.")
    if call.has("force") or call.has("yes") or not found.active:
        raise UnknownUse
    raise RefusedByLvm(
        f"WARNING: Reducing active logical volume to {readable(wanted * EXTENT)}.",
        "THIS MAY DESTROY YOUR DATA (filesystem etc.)",
        f"Do you really want to reduce {full_name}? {ANSWERED}",
        f"Logical volume {full_name} NOT reduced.",
    )


def lvremove(call: Call) -> None:
    group, name = call.group_and_name()
    found = group.find(name)
    if not (call.has("force") or call.has("yes")):
        question = _question(group, found)
        if question:
            raise RefusedByLvm(f"{question} {ANSWERED}", f"Logical volume {group.name}/{name} not removed.")
    for gone in call.manager.remove(group, found):
        call.say(f'Logical volume "{gone}" successfully removed.')
    call.changed = True


def _question(group: VolumeGroup, found: ThinPool | ThinVolume) -> str:
    """What LVM asks before it removes this without force; "" if it does not ask."""
    full_name = f"{group.name}/{found.name}"
    if isinstance(found, ThinPool):
        dependent = len(group.volumes_of(found))
        if dependent:
            return f"Removing pool {full_name} will remove {dependent} dependent volume(s). Proceed?"
    elif not found.active:
        return ""
    return f"Do you really want to remove active logical volume {full_name}?"

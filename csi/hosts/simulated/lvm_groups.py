"""``pvcreate``, ``pvremove``, ``vgcreate``, ``vgchange`` and ``vgremove`` of simulated hosts."""

from __future__ import annotations

from csi.hosts.simulated.filesystem import BlockDevice
from csi.hosts.simulated.lvm import EXTENT, NAME, PhysicalVolume, RefusedByLvm
from csi.hosts.simulated.lvm_call import ANSWERED, Call, UnknownUse

_LABEL = 4096  # what lies before the metadata of a physical volume


def _start(call: Call) -> int:
    """Where the first extent lies: behind label and metadata, aligned; 1 MiB if nothing is said."""
    metadata = call.size("metadatasize")[1] if call.has("metadatasize") else (1 << 20) - _LABEL
    alignment = call.size("dataalignment")[1] if call.has("dataalignment") else 1 << 20
    return -(-(_LABEL + metadata) // alignment) * alignment


def _wipe(call: Call, device: BlockDevice) -> None:
    if call.manager.in_use(device):
        held = f"Can't open {device.path} exclusively.  Mounted filesystem?"
        raise RefusedByLvm(
            held,
            held,
            f"Error opening device {device.path} for reading at 0 length 4096.",
            f"Cannot use {device.path}: device has a signature",
        )
    if device.filesystem is not None:
        kind = device.filesystem.kind
        if not call.has("yes"):
            raise RefusedByLvm(
                f"WARNING: {kind} signature detected on {device.path} at offset 0. Wipe it? {ANSWERED}",
                f"Aborted wiping of {kind}.",
                "1 existing signature left on the device.",
            )
        call.say(f"Wiping {kind} signature on {device.path}.")


def _label(call: Call, path: str) -> PhysicalVolume:
    _wipe(call, call.manager.device(path))
    made = call.manager.label(path, _start(call))
    call.say(f'Physical volume "{path}" successfully created.')
    return made


def pvcreate(call: Call) -> None:
    for path in call.operands:
        _label(call, path)


def pvremove(call: Call) -> None:
    for path in call.operands:
        call.manager.unlabel(path)
        call.say(f'Labels on physical volume "{path}" successfully wiped.')


def vgcreate(call: Call) -> None:
    """A device that is no physical volume yet becomes one."""
    name, *paths = call.operands
    if not paths or len(set(paths)) < len(paths):
        raise UnknownUse
    if call.has("physicalextentsize") and call.size("physicalextentsize")[1] != EXTENT:
        raise UnknownUse
    if not NAME.fullmatch(name):
        raise RefusedByLvm(
            "Name contains invalid character, valid set includes: [a-zA-Z0-9.-_+].",
            f'New volume group name "{name}" is invalid.',
            "Run `vgcreate --help' for more information.",
            status=3,
        )
    tags = call.tags("addtag")
    if name in call.manager.groups:
        raise RefusedByLvm(f"A volume group called {name} already exists.")
    for path in paths:
        present = call.manager.physical.get(call.manager.device(path).path)
        if present is not None and present.group is not None:
            raise RefusedByLvm(
                f"Physical volume '{path}' is already in volume group '{present.group.name}'",
                f"Unable to add physical volume '{path}' to volume group '{present.group.name}'",
                f"{path}: physical volume not initialized.",
            )
    members = [call.manager.physical.get(path) or _label(call, path) for path in paths]
    call.manager.make_group(name, members, tags)
    call.changed = True
    call.say(f'Volume group "{name}" successfully created')


def vgremove(call: Call) -> None:
    group = call.manager.group(call.operand())
    count = len(group.volumes) + len(group.pools)
    if count and not (call.has("force") or call.has("yes")):
        question = f'Do you really want to remove volume group "{group.name}" containing {count} logical volumes?'
        raise RefusedByLvm(f"{question} {ANSWERED}", f'Volume group "{group.name}" not removed')
    for name in call.manager.remove_group(group):
        call.say(f'Logical volume "{name}" successfully removed.')
    call.say(f'Volume group "{group.name}" successfully removed')


def vgchange(call: Call) -> None:
    """Tags only."""
    added, removed = call.tags("addtag"), call.tags("deltag")
    if not added and not removed:
        raise UnknownUse
    group = call.manager.group(call.operand())
    group.tags = (group.tags | added) - removed
    call.changed = True
    call.say(f'Volume group "{group.name}" successfully changed')

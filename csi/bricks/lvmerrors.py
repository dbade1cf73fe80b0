"""What goes wrong with volume groups, told with host, device and remedy: the one place for the verbs' statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum

from csi.bricks import lvmtags
from csi.core.errors import CommandFailed, Incoherent, InUse, InvalidRequest, Unavailable
from csi.core.model import Device, Host


class Status(IntEnum):
    """Of the verbs (hosts/verbs.sh, hosts/lvm.sh)."""

    UNMARKED = 71
    MARKED_OTHERWISE = 72
    EVIDENCE = 73
    BUSY = 74
    OTHER_SIZE = 75
    NOT_MOUNTED = 76
    LACKS_DISK = 77
    HOLDS_SOMETHING = 78
    IN_USE = 79


_ROOM = re.compile(r"[Ii]nsufficient free space|has insufficient")


def explain(host: Host, failed: CommandFailed) -> None:
    """Raises the error that the failure means. Returns if it has no better words than its own."""
    said, last = _told(failed.stderr)
    if "Read-only file system" in failed.stderr:
        raise Unavailable(
            f"host {host.manage}: a file system there has become read-only: {said}; look at its kernel log, repair it "
            f"and mount it again"
        ) from failed
    if not failed.argv[0].startswith("csi_"):
        return
    argument = failed.argv[1] if len(failed.argv) > 1 else ""
    verb = "csi_lvm_look" if failed.argv[0].startswith("csi_lvm_look") else failed.argv[0]
    match verb, failed.status:
        case "csi_lvm_look", Status.UNMARKED:
            raise Unavailable(
                f"host {host.manage} has no volume group {last}: its disk is away, or it was "
                f"removed there; bring the disk back (pvs, vgscan), or load the topology again"
            ) from failed
        case "csi_lvm_look" | "csi_lvm_release", Status.MARKED_OTHERWISE:
            raise Unavailable(
                f"a volume group of host {host.manage} carries {mark_told(last)}, not ours: two "
                f"installations use it, or its tags were changed"
            ) from failed
        case "csi_lvm_look", Status.LACKS_DISK:
            raise Unavailable(
                f"host {host.manage}: a volume group lacks a disk: {said}; bring it back, then `vgextend "
                f"--restoremissing`; nothing is made or removed there until then"
            ) from failed
        case _, Status.BUSY:
            raise Unavailable(
                f"host {host.manage}: {argument} is still in use: {said}; end what uses it and it will be tried again"
            ) from failed
        case _, Status.NOT_MOUNTED:
            raise Unavailable(
                f"host {host.manage}: the brick at {said} is not mounted: mount it (`mount -a`) and start it"
            ) from failed
        case _, Status.OTHER_SIZE:
            raise Incoherent(f"host {host.manage}: {said}, not what the record says; nothing was changed") from failed
    if _ROOM.search(failed.stderr):
        raise Unavailable(
            f"host {host.manage}: volume group {argument} has no room: {said}; something unrecorded takes it: "
            f"compare `lvs {argument}` with the records"
        ) from failed


def _told(stderr: str) -> tuple[str, str]:
    """In one line, as much as a message can bear; and its last line, which is the verb's own."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return "; ".join(lines)[-400:], lines[-1] if lines else ""


def explain_claim(host: Host, device: Device, failed: CommandFailed) -> None:
    """The same for ``csi_lvm_claim``."""
    said, last = _told(failed.stderr)
    name = f"device {device.path} of host {host.manage}"
    match failed.status:
        case Status.MARKED_OTHERWISE:
            raise InUse(
                f"{name}: its volume group carries {mark_told(last)}: remove it there first, or `vgremove` and "
                f"`pvremove` by hand if nothing on it is needed"
            ) from failed
        case Status.HOLDS_SOMETHING:
            raise InUse(
                f"{name} holds something: {said}; look at it with `wipefs {device.path}`, and confirm with destroydata "
                f"(destroyData in a GlusterDevice) if it is not needed"
            ) from failed
        case Status.IN_USE:
            raise InUse(f"{name} is in use: {said}; unmount it, or stop what uses it, first") from failed


def mark_told(tags: str) -> str:
    mark = lvmtags.read_mark(tags)
    if mark is None:
        return f"strange tags {tags[:120]!r}" if tags else "no tag of ours"
    return f"the mark of instance {mark.instance!r}, device {mark.device}"


def check_facts(host: Host, path: str, said: Mapping[str, Sequence[str]]) -> None:
    """Raises: InvalidRequest for what is no block device, or a host that lacks programs."""
    told = {
        "missing": f"there is no such device on host {host.manage}: `lsblk` shows those that are there",
        "other": "it is not a block device; give one, or a directory on a mounted file system",
    }
    kind = next(iter(said.get("kind", [])), "missing")
    if missing := said.get("missing"):
        raise InvalidRequest(
            "device", path, f"host {host.manage} lacks {', '.join(missing)}: install them (lvm2, xfsprogs, util-linux)"
        )
    if kind in told:
        raise InvalidRequest("device", path, told[kind])


def refuse_contents(host: Host, path: str, signatures: Sequence[str], group: str, tags: str, *, destroy: bool) -> None:
    """Raises: InvalidRequest naming what is on the device; returns if it may be wiped."""
    if group:
        raise InvalidRequest(
            "device",
            path,
            f"it is part of volume group {group} of host {host.manage}, which carries {mark_told(tags)}: remove that "
            f"first if nothing on it is needed (vgremove, pvremove); it is never wiped from here",
        )
    if not destroy:
        found = ", ".join(signatures)
        raise InvalidRequest(
            "device",
            path,
            f"it holds {found}: look with `wipefs {path}`, and confirm with destroydata (in a GlusterDevice "
            "destroyData) to wipe it",
        )

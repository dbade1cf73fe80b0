"""Where the parts of a brick of the ``file`` backend lie, its line in fstab, and which devices are accepted."""

from __future__ import annotations

import re

from csi.core import naming
from csi.core.errors import InvalidRequest
from csi.core.model import Host, PlacedBrick

MOUNT_OPTIONS = "loop,noatime,inode64,nouuid"

# No space or backslash: fstab and the prototype file of mkfs.xfs split at spaces; no comma: mkfs.xfs splits at commas.
_PATH = re.compile(r"(/[A-Za-z0-9_@%+=:.-]+)+")
_LONGEST = 1024


def check_device_path(path: str) -> None:
    """Raises: InvalidRequest."""
    parts = path.split("/")
    if not _PATH.fullmatch(path) or len(path) > _LONGEST or "." in parts or ".." in parts:
        raise InvalidRequest(
            "device",
            path,
            "give an absolute path of letters, digits and _@%+=:.- without a slash at the end, '.' or '..'",
        )
    if path == naming.BRICK_ROOT or path.startswith(naming.BRICK_ROOT + "/"):
        raise InvalidRequest("device", path, f"bricks are mounted below {naming.BRICK_ROOT}: give another directory")


def check_kind(host: Host, path: str, kind: str) -> None:
    """Raises: InvalidRequest for anything but a directory."""
    told: dict[str, str] = {
        "block": "it is a block device: name it by its path below /dev, and it carries bricks by LVM",
        "missing": f"there is no such directory on host {host.manage}: make it and mount a disk there",
        "other": "it is not a directory; give a directory on a mounted file system",
    }
    if kind in told:
        raise InvalidRequest("device", path, told[kind])


def stem(placed: PlacedBrick) -> str:
    """What the names of a brick's files on its device begin with: STEM.json, STEM.img."""
    return naming.brick_image(placed.device.path, placed.brick.id).removesuffix(".img")


def image(placed: PlacedBrick) -> str:
    return stem(placed) + ".img"


def tag(placed: PlacedBrick) -> str:
    return stem(placed) + ".json"


def mount_point(placed: PlacedBrick) -> str:
    return naming.brick_mount(placed.device.id, placed.brick.id)


def fstab_line(placed: PlacedBrick) -> str:
    """``nofail``: a lost image must not keep the host from booting."""
    return f"{image(placed)} {mount_point(placed)} xfs {MOUNT_OPTIONS},nofail 0 0"

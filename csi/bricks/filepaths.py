"""Where the parts of a brick of the ``file`` backend lie, its line in fstab, and which device paths are accepted."""

from __future__ import annotations

import re

from csi.core import naming
from csi.core.errors import InvalidRequest
from csi.core.model import PlacedBrick

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

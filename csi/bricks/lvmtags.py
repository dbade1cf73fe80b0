"""Who a brick is, and whose a volume group is, as tags of LVM: they can be read when nothing can be mounted.

Tags for people (``csi.volume=ID``), and the whole identity packed into as few tags as it takes, since LVM takes only
letters, digits and ``_+.-/=!:&#``. LVM prints the tags of a thing sorted, with commas between: so they are written
here, and the shell on the host compares them as one text.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib

from csi.bricks import identity
from csi.bricks.identity import DeviceMark
from csi.core.copyidentity import CopyIdentity
from csi.core.model import BrickIdentity, DeviceId

_PACKED = "csi.identity."
_PACKED_COPY = "csi.copy-identity."
_SHARE = re.compile(r"(?:^|,)csi\.share=([0-9]+)")
_TAKEN = re.compile(r"(?:^|,)csi\.taken=([0-9]+)")
_LONGEST = 900  # characters of a tag; LVM takes 1024
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")


def of_brick(value: BrickIdentity) -> str:
    brick = value.brick
    return _joined(
        f"csi.brick={brick.id}",
        f"csi.volume={value.volume_id}",
        f"csi.set={brick.set}",
        f"csi.index={brick.index}",
        f"csi.instance={_plain(value.instance)}",
        *_packed(_PACKED, identity.write(value)),
    )


def of_copy(value: CopyIdentity) -> str:
    """Without its share and its moment, which the host finds when it makes the copy."""
    return _joined(
        f"csi.copy={value.copy.id}",
        f"csi.snapshot={value.snapshot_id}",
        f"csi.volume={value.volume_id}",
        f"csi.instance={_plain(value.instance)}",
        *_packed(_PACKED_COPY, identity.write(value)),
    )


def read_copy(tags: str) -> CopyIdentity | None:
    """None if these are not the tags of a copy."""
    text = _unpacked(_PACKED_COPY, tags)
    return identity.read_copy(text) if text is not None else None


def share(tags: str) -> int:
    """What a copy may come to hold, in bytes; 0 if they don't say."""
    found = _SHARE.search(tags)
    return int(found[1]) << 10 if found is not None else 0


def moment(tags: str) -> float:
    """When a copy was made, in seconds since the epoch; 0 if they don't say."""
    found = _TAKEN.search(tags)
    return float(found[1]) if found is not None else 0.0


def read_brick(tags: str) -> BrickIdentity | None:
    """None if these are not the tags of a brick."""
    text = _unpacked(_PACKED, tags)
    return identity.read_brick(text) if text is not None else None


def of_device(mark: DeviceMark) -> str:
    return _joined(f"csi.device={mark.device}", f"csi.instance={_plain(mark.instance)}")


def read_mark(tags: str) -> DeviceMark | None:
    """None if these are not the tags of a device."""
    said = dict(tag.partition("=")[::2] for tag in tags.split(","))
    try:
        return DeviceMark(_told(said["csi.instance"]), DeviceId(said["csi.device"]))
    except (KeyError, ValueError):
        return None


def _packed(prefix: str, text: str) -> list[str]:
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    parts = [packed[start : start + _LONGEST] for start in range(0, len(packed), _LONGEST)]
    return [f"{prefix}{number:02d}={part}" for number, part in enumerate(parts)]


def _unpacked(prefix: str, tags: str) -> str | None:
    parts = [tag.partition("=")[2] for tag in sorted(tags.split(",")) if tag.startswith(prefix)]
    try:
        return zlib.decompress(base64.b64decode("".join(parts), validate=True)).decode()
    except (binascii.Error, zlib.error, ValueError):
        return None


def _joined(*tags: str) -> str:
    return ",".join(sorted(tags))


def _plain(text: str) -> str:
    return _UNSAFE.sub(lambda found: b":%02x" % found[0][0], text.encode()).decode()


def _told(text: str) -> str:
    return re.sub(rb":([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode()).decode()

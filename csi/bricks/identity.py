"""Who a brick is, and whose a device is, as text on the host: one line of JSON, written and read here only."""

from __future__ import annotations

from dataclasses import dataclass

from csi.core import documents
from csi.core.copyidentity import CopyIdentity
from csi.core.model import BrickIdentity, DeviceId

DEVICE_MARK = ".gluster-csi-device.json"


@dataclass(frozen=True, slots=True)
class DeviceMark:
    """What a claimed device says of itself."""

    instance: str
    device: DeviceId
    schema: int = 1


def write(value: BrickIdentity | CopyIdentity | DeviceMark) -> str:
    """Equal values give equal text: the shell on the host compares it as a whole."""
    return documents.encode(value).decode()


def read_brick(text: str) -> BrickIdentity | None:
    """None if the text is not the identity of a brick."""
    try:
        return documents.decode(text, BrickIdentity)
    except ValueError:
        return None


def read_copy(text: str) -> CopyIdentity | None:
    """None if the text is not the identity of a copy."""
    try:
        return documents.decode(text, CopyIdentity)
    except ValueError:
        return None


def read_mark(text: str) -> DeviceMark | None:
    """None if the text is not the mark of a device."""
    try:
        return documents.decode(text, DeviceMark)
    except ValueError:
        return None

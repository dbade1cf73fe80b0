"""All backends, each over the same way to the hosts."""

from __future__ import annotations

from collections.abc import Mapping

from csi.bricks.filecopies import FileCopies
from csi.bricks.lvm import LvmBackend
from csi.core.model import Backend
from csi.ports import BrickBackend, Runner


def backends(runner: Runner, instance: str, fstab: str = "/etc/fstab") -> Mapping[Backend, BrickBackend]:
    """``fstab``: where bricks are entered on the hosts."""
    return {
        Backend.FILE: FileCopies(runner, instance, fstab),
        Backend.LVM: LvmBackend(runner, instance, fstab),
    }

"""A backend over LVM and a host under test, with which the tests make bricks; where LVM keeps them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from csi.bricks import lvmpaths
from csi.bricks.lvmcopies import LvmCopies
from csi.core import naming
from csi.core.model import Backend, BrickRole, PlacedBrick
from tests.contract.bricks.bench import GID, SIZE, Bench
from tests.contract.lvm.hosts import LaboratoryLvmHost, SimulatedLvmHost
from tests.lab import vm

KINDS = ("simulated", *([pytest.param("lab", marks=pytest.mark.lab)] if vm.inside() else []))


@dataclass
class LvmBench(Bench):
    on: SimulatedLvmHost | LaboratoryLvmHost
    backend: LvmCopies  # type: ignore[assignment]

    def placed(
        self,
        name: str = "pvc-1",
        *,
        index: int = 0,
        device: int = 0,
        gid: int = GID,
        mode: int = 0o2770,
        size: int = SIZE,
        role: BrickRole = BrickRole.DATA,
    ) -> PlacedBrick:
        made = super().placed(name, index=index, device=device, gid=gid, mode=mode, size=size, role=role)
        path = naming.brick_directory(made.device.id, made.brick.id, Backend.LVM)
        return replace(made, identity=replace(made.identity, brick=replace(made.brick, path=path)))

    def mount_point(self, placed: PlacedBrick) -> str:
        return lvmpaths.mount_point(placed)


def volume(placed: PlacedBrick) -> str:
    group, name, _ = lvmpaths.names(placed)
    return f"{group}/{name}"


def pool(placed: PlacedBrick) -> str:
    group, _, name = lvmpaths.names(placed)
    return f"{group}/{name}"

"""Every backend that is wired can copy. One that lacked a part of the port would be taken for one that can't."""

from __future__ import annotations

from typing import cast

from csi.bricks.filecopies import FileCopies
from csi.bricks.lvmcopies import LvmCopies
from csi.copyports import BrickCopies
from csi.ports import Runner


def test_both_backends_can_copy() -> None:
    nobody = cast(Runner, None)
    # Also for mypy, which looks at the types of the parts.
    backends: list[BrickCopies] = [FileCopies(nobody, "i"), LvmCopies(nobody, "i")]
    assert all(isinstance(backend, BrickCopies) for backend in backends)
    assert [backend.holds for backend in backends] == [True, False]

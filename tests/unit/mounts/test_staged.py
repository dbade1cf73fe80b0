"""Records of staged volumes: found by the next process of the same boot only."""

from __future__ import annotations

from pathlib import Path

from csi.mountports import MountSource
from csi.mounts.staged import StagedFiles
from csi.nodeports import Bound, Staged

STAGED = Staged("1", MountSource(("a", "b"), "vol_1", 5, ("--acl",)), "/staging", (Bound("/pod", ("ro",)),))


async def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    await StagedFiles(tmp_path / "x", "boot").put(STAGED)
    again = StagedFiles(tmp_path / "x", "boot")
    assert await again.all() == (STAGED,)
    await again.remove("/staging")
    await again.remove("/staging")
    assert await again.all() == ()


async def test_after_a_reboot_nothing_is_staged(tmp_path: Path) -> None:
    await StagedFiles(tmp_path, "boot").put(STAGED)
    assert await StagedFiles(tmp_path, "next").all() == ()
    assert list(tmp_path.iterdir()) == []


async def test_what_cannot_be_read_or_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text("{")
    files = StagedFiles(tmp_path, "boot")
    await files.put(STAGED)
    assert await files.all() == (STAGED,)
    (tmp_path / "file").touch()
    elsewhere = StagedFiles(tmp_path / "file" / "x", "boot")
    await elsewhere.put(STAGED)
    await elsewhere.remove("/staging")
    assert await elsewhere.all() == ()

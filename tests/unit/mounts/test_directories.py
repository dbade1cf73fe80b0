"""Mount points as directories: never more than an empty one is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.core.errors import MountFailed
from csi.mounts import directories


def test_made_with_what_is_above_it_once(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    assert directories.make(str(target))
    assert not directories.make(str(target))
    directories.remove(str(target))
    assert not target.exists()
    assert target.parent.exists()
    directories.remove(str(target))


def test_what_holds_something_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "data").write_text("precious")
    for act in (directories.make, directories.remove):
        with pytest.raises(MountFailed, match="not empty \\('data'\\)"):
            act(str(tmp_path / "t"))
    assert (tmp_path / "t" / "data").read_text() == "precious"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_directory_is_left_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "t"
    target.write_text("x") if kind == "file" else target.symlink_to(tmp_path / "elsewhere")
    for act in (directories.make, directories.remove):
        with pytest.raises(MountFailed, match="not a directory"):
            act(str(target))
    assert target.is_symlink() is (kind == "link")
    assert target.exists()


def test_a_mount_point_is_not_removed() -> None:
    with pytest.raises(MountFailed, match="still a mount point"):
        directories.remove("/proc")


def test_links_above_are_resolved_the_last_part_is_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "last").symlink_to("/nowhere")
    assert directories.resolve(f"{tmp_path}/link/./x/../last/") == f"{tmp_path}/real/last"

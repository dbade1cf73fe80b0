"""Which device paths are accepted: none that could break a line of fstab, a prototype file or an option."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.bricks import filepaths
from csi.core import naming
from csi.core.errors import InvalidRequest


@pytest.mark.parametrize("path", ["/srv/d0", "/data", "/mnt/disk-1/gluster.csi", "/srv/a+b@c:d=e%f", "/srv/..data"])
def test_ordinary_paths_are_accepted(path: str) -> None:
    filepaths.check_device_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "srv/d0",
        "/srv/d0/",
        "/srv//d0",
        "/srv/../etc",
        "/srv/./d0",
        "/srv/d 0",
        "/srv/d\\040",
        "/srv/d,0",
        "/srv/d\n0",
        "/srv/d0\n",
        "/srv/$(reboot)",
        "/srv/`id`",
        "/srv/'d0'",
        "/srv/d;0",
        "/srv/ä",
        "/" + "d" * 1024,
        naming.BRICK_ROOT,
        naming.BRICK_ROOT + "/x",
    ],
)
def test_other_paths_are_refused_by_name(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filepaths.check_device_path(path)
    assert caught.value.field == "device"
    assert caught.value.value == path


@given(st.text(max_size=200))
def test_no_accepted_path_can_break_a_line_of_fstab_or_an_option(path: str) -> None:
    """fstab and prototype files split at white space and know a backslash; mkfs.xfs and mount split at commas."""
    try:
        filepaths.check_device_path("/" + path)
    except InvalidRequest:
        return
    assert path.isascii()
    assert not set(path) & set(" \t\n\\,'\"$`;&|<>*?[](){}#!~^")

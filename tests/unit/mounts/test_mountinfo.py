"""mountinfo: what the kernel writes, stacked, hidden and twice propagated mounts."""

from __future__ import annotations

import os

import pytest

from csi.mounts import mountinfo
from csi.mounts.mountinfo import MountEntry

# The GlusterFS line as glusterfs 10.3 on Linux 6.18 gives it.
GLUSTER = (
    b"123 27 0:51 / /var/lib/k/mount rw,relatime - fuse.glusterfs 10.22.202.11:/va "
    b"rw,user_id=0,group_id=0,default_permissions,allow_other,max_read=131072\n"
)


def line(ident: int, parent: int, device: str, path: str, root: str = "/") -> bytes:
    return f"{ident} {parent} {device} {root} {path} rw shared:1 - ext4 /dev/x rw\n".encode()


def test_a_line_of_the_kernel() -> None:
    assert mountinfo.parse(GLUSTER) == (
        MountEntry(
            123,
            27,
            "0:51",
            "/",
            "/var/lib/k/mount",
            ("rw", "relatime"),
            "fuse.glusterfs",
            "10.22.202.11:/va",
            ("rw", "user_id=0", "group_id=0", "default_permissions", "allow_other", "max_read=131072"),
        ),
    )


@pytest.mark.parametrize("optional", [b"", b"shared:5 ", b"shared:5 master:7 propagate_from:2 unbindable "])
def test_any_number_of_optional_fields(optional: bytes) -> None:
    (entry,) = mountinfo.parse(b"1 2 8:1 /a /b ro " + optional + b"- xfs /dev/sda1 rw\n")
    assert (entry.fstype, entry.source, entry.root) == ("xfs", "/dev/sda1", "/a")


def test_octal_escapes_and_names_that_are_not_utf8() -> None:
    (entry,) = mountinfo.parse(b"1 2 8:1 / /a\\040b\\011c\\134d\\012\xff rw - xfs a\\040b rw\n")
    assert os.fsencode(entry.path) == b"/a b\tc\\d\n\xff"
    assert entry.source == "a b"


@pytest.mark.parametrize("text", [b"1 2 8:1 / /a rw xfs x rw\n", b"x 2 8:1 / /a rw - xfs x rw\n", b"1 2\n"])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        mountinfo.parse(text)


def test_paths_are_compared_exactly() -> None:
    entries = mountinfo.parse(line(1, 0, "8:1", "/") + line(2, 1, "0:5", "/a/b"))
    assert mountinfo.top(entries, "/a") is None
    assert mountinfo.top(entries, "/a/b/c") is None
    assert (found := mountinfo.top(entries, "/a/b")) is not None
    assert found.id == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_uppermost_of_a_stack_wins_in_any_order_of_lines(order: tuple[int, ...]) -> None:
    lines = [line(10, 1, "0:5", "/a"), line(11, 10, "0:6", "/a"), line(9, 11, "0:7", "/a")]
    found = mountinfo.top(mountinfo.parse(b"".join(lines[i] for i in order)), "/a")
    assert found is not None
    assert found.device == "0:7"


def test_hidden_by_a_mount_over_a_directory_above() -> None:
    before = line(1, 0, "8:1", "/") + line(2, 1, "0:5", "/a/b/c")
    entries = mountinfo.parse(before)
    assert not mountinfo.is_hidden(entries, entries[1])
    entries = mountinfo.parse(before + line(3, 1, "0:6", "/a"))
    assert mountinfo.is_hidden(entries, entries[1])
    assert not mountinfo.is_hidden(entries, entries[2])
    stacked = mountinfo.parse(before + line(3, 2, "0:5", "/a/b/c"))
    assert not mountinfo.is_hidden(stacked, stacked[2])


def test_all_paths_of_a_superblock() -> None:
    entries = mountinfo.parse(
        line(1, 0, "8:1", "/") + line(2, 1, "0:5", "/s") + line(3, 1, "0:5", "/t1") + line(4, 1, "0:6", "/t2")
    )
    assert mountinfo.paths_of(entries, "0:5") == ("/s", "/t1")
    assert mountinfo.paths_of(entries, "0:5", ["/s"]) == ("/t1",)
    assert mountinfo.paths_of(entries, "0:9") == ()


def test_a_propagated_copy_is_the_same_place() -> None:
    # /var/lib/kubelet is a bind mount of /data/kubelet: each mount below is listed under both names.
    entries = mountinfo.parse(
        line(1, 0, "8:1", "/")
        + line(2, 1, "8:1", "/var/lib/kubelet", root="/data/kubelet")
        + line(3, 2, "0:5", "/var/lib/kubelet/staging")
        + line(4, 1, "0:5", "/data/kubelet/staging")
        + line(5, 2, "0:5", "/var/lib/kubelet/pod")
        + line(6, 1, "0:5", "/data/kubelet/pod")
    )
    assert mountinfo.paths_of(entries, "0:5") == ("/var/lib/kubelet/staging", "/var/lib/kubelet/pod")
    assert mountinfo.paths_of(entries, "0:5", ["/var/lib/kubelet/staging", "/data/kubelet/pod"]) == ()


def test_this_machine() -> None:
    entries = mountinfo.read()
    root = mountinfo.top(entries, "/")
    assert root is not None
    assert not mountinfo.is_hidden(entries, root)

"""File systems of simulated hosts: trees of files and directories with owners, modes, attributes and space.

Errors are ``OSError`` with the number that Linux would give, so that programs can print what the real ones print.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace
from typing import ClassVar


def refused(number: int, path: str) -> OSError:
    """The error that the kernel would give."""
    return OSError(number, os.strerror(number), path)


@dataclass(slots=True, eq=False)
class File:
    """A regular file. ``size`` is its length, ``allocated`` what it takes; ``image`` the file system made in it."""

    text: str = ""
    size: int = 0
    allocated: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    immutable: bool = False
    image: FileSystem | None = None
    # As a directory has them, so that a walk need not ask what it stands on.
    children: ClassVar[dict[str, File | Directory]] = {}
    mount: ClassVar[Mount | None] = None


@dataclass(slots=True, eq=False)
class Directory:
    """A directory; ``mount`` is what is mounted on it."""

    children: dict[str, File | Directory] = field(default_factory=dict)
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    immutable: bool = False
    mount: Mount | None = None


Node = File | Directory


@dataclass(slots=True, eq=False)
class FileSystem:
    """Space, and a tree. The space of one that lies in an image is taken from the image's own file system too.

    ``uuid`` is the same on a copy of the device; "" where nobody looks at it.
    """

    kind: str
    capacity: int
    used: int = 0
    root: Directory = field(default_factory=Directory)
    below: FileSystem | None = None
    can_be_immutable: bool = True
    uuid: str = ""
    frozen: bool = False

    def take(self, amount: int, path: str) -> None:
        """Raises: OSError (ENOSPC)."""
        if amount > self.capacity - self.used or (
            self.below is not None and amount > self.below.capacity - self.below.used
        ):
            raise refused(errno.ENOSPC, path)
        self.give_back(-amount)

    def give_back(self, amount: int) -> None:
        self.used -= amount
        if self.below is not None:
            self.below.used -= amount


def copy_directory(directory: Directory) -> Directory:
    """The tree as a snapshot of its device has it: with all attributes, with nothing mounted on it."""
    children = {
        name: copy_directory(child) if isinstance(child, Directory) else replace(child, xattrs=dict(child.xattrs))
        for name, child in directory.children.items()
    }
    return replace(directory, children=children, xattrs=dict(directory.xattrs), mount=None)


@dataclass(slots=True, eq=False)
class BlockDevice:
    """A disk or a logical volume. ``filesystem`` is what was made on it, ``below`` what its space is taken from.

    ``member``: it carries the label of an LVM physical volume.
    """

    path: str
    size: int
    filesystem: FileSystem | None = None
    below: FileSystem | None = None
    member: bool = False


@dataclass(slots=True, eq=False)
class Mount:
    """A file system at a path. ``image`` is the file behind the loop device, if it is one."""

    path: str
    filesystem: FileSystem
    source: str
    options: str
    number: int
    image: File | None = None
    image_path: str = ""

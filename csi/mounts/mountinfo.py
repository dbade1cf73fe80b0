"""What is mounted where, as the kernel tells: ``/proc/self/mountinfo``.

Reading it never touches a mounted file system, so it works while one of them hangs. Paths are compared
exactly; the caller resolves symbolic links first.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line. ``device`` is "major:minor" of the superblock, ``root`` the directory of it that is mounted."""

    id: int
    parent: int
    device: str
    root: str
    path: str
    options: tuple[str, ...]  # of this mount
    fstype: str
    source: str
    super_options: tuple[str, ...]  # of the superblock


@lru_cache(maxsize=1)  # of the looks that one operation takes, few see a change
def parse(text: bytes) -> tuple[MountEntry, ...]:
    """Raises: ValueError for a line that the kernel would not write."""
    return tuple(_entry(line) for line in text.splitlines() if line)


def read(file: Path = _MOUNTINFO) -> tuple[MountEntry, ...]:
    return parse(file.read_bytes())


def top(entries: Iterable[MountEntry], path: str) -> MountEntry | None:
    """What a look at ``path`` shows: of mounts stacked there, the one that no other is mounted on."""
    here = [entry for entry in entries if entry.path == path]
    covered = {entry.parent for entry in here}
    return next((entry for entry in reversed(here) if entry.id not in covered), None)


def is_hidden(entries: Sequence[MountEntry], entry: MountEntry) -> bool:
    """Whether a mount over a directory above it keeps ``entry`` out of sight."""
    by_id = {each.id: each for each in entries}
    parent = by_id.get(entry.parent)
    while parent is not None and parent.path == entry.path and parent.id != parent.parent:
        parent = by_id.get(parent.parent)  # down the stack at the same path
    above = entry.path
    shown = None
    while shown is None and above != "/":
        above = posixpath.dirname(above)
        shown = top(entries, above)
    return shown is not None and shown != parent


def paths_of(entries: Sequence[MountEntry], device: str, apart_from: Iterable[str] = ()) -> tuple[str, ...]:
    """Where the superblock is mounted, each place once and without the places of ``apart_from``.

    Where a directory is bound a second time with shared propagation, each mount below it appears at two paths,
    which are one place: the same directory of the same file system carries it.
    """
    by_id = {entry.id: entry for entry in entries}
    left_out = set(apart_from)
    mounts = [(entry.path, _place(entry, by_id)) for entry in entries if entry.device == device]
    seen = {place for path, place in mounts if path in left_out}
    found: list[str] = []
    for path, place in mounts:
        if place not in seen and path not in left_out:
            seen.add(place)
            found.append(path)
    return tuple(found)


def _place(entry: MountEntry, by_id: dict[int, MountEntry]) -> tuple[str, str]:
    parent = by_id.get(entry.parent)
    if parent is None:  # the root, or mounted on something outside a chroot
        return ("", entry.path)
    within = posixpath.relpath(entry.path, parent.path)
    return (parent.device, posixpath.normpath(posixpath.join(parent.root, within)))


def _entry(line: bytes) -> MountEntry:
    # Optional fields, any number of them, end at a lone "-".
    fields = line.split(b" ")
    try:
        dash = fields.index(b"-", 6)
        ident, parent, device, root, path, options = fields[:6]
        fstype, source, super_options = fields[dash + 1 : dash + 4]
        return MountEntry(
            id=int(ident),
            parent=int(parent),
            device=device.decode(),
            root=_text(root),
            path=_text(path),
            options=tuple(_text(options).split(",")),
            fstype=_text(fstype),
            source=_text(source),
            super_options=tuple(_text(super_options).split(",")),
        )
    except ValueError as error:
        raise ValueError(f"not a line of mountinfo: {line[:200]!r}") from error


def _text(field: bytes) -> str:
    """Space, tab, newline and backslash are written in octal; names need not be UTF-8."""
    if b"\\" not in field:
        return field.decode(errors="surrogateescape")
    plain = _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return plain.decode(errors="surrogateescape")

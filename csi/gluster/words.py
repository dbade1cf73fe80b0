"""Words of a gluster command: what may be one, and which of them a long-lived session can take.

The prompt of ``gluster`` knows no quoting: it cuts a line at spaces, crashes on a tab, and reads 1023 bytes at a
time: the rest of a longer line would be *another command*, and the beginning of a ``volume create`` may be a valid one
with fewer bricks. On the command line of a process of its own everything can be said, except that a word that begins
with ``--`` is an option of the tool (``--remote-host=...``) wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from csi.core.errors import InvalidRequest
from csi.core.model import Brick, Durability, Host, Protection, Volume

LINE_LIMIT = 1000  # bytes; gluster's own limit is 1022 and the line feed

VALUE_LIMIT = 1024
"""Characters of an option's value. glusterd 10 reserves 4096 bytes for it and aborts on more."""

_PLAIN = re.compile(r"[!-~]+")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+|[a-z0-9][a-z0-9-]*")

# Said to `volume set` in the place of a key, these are commands of their own.
_NOT_KEYS = frozenset({"all", "force", "group", "help", "help-xml"})


def is_plainly_answered(words: Sequence[str]) -> bool:
    """Whether the tool answers in plain text, whatever it is asked for."""
    return tuple(words[:2]) == ("volume", "barrier")


def line(words: Sequence[str]) -> bytes | None:
    """The words as a line for a session; None if a session could not take them."""
    # The text of `volume heal` comes from a child of the prompt, which answers nobody.
    if tuple(words[:2]) == ("volume", "heal") or not all(_PLAIN.fullmatch(word) for word in words):
        return None
    text = " ".join(words).encode("ascii")
    return text + b"\n" if len(text) <= LINE_LIMIT else None


def checked(words: Sequence[str]) -> tuple[str, ...]:
    """The words, if they can be given to gluster at all. Raises: InvalidRequest."""
    for word in words:
        if not _PRINTABLE.fullmatch(word) or word.startswith("--"):
            raise InvalidRequest(
                "gluster command", word, "a word must not be empty, begin with -- or hold control characters"
            )
    return tuple(words)


def name(text: str) -> str:
    """The name of a volume. Raises: InvalidRequest."""
    if not _NAME.fullmatch(text) or text in _NOT_KEYS:
        raise InvalidRequest("name of the Gluster volume", text, "letters, digits, _ and -, at most 255")
    return text


def creation(volume: Volume, hosts: Sequence[Host]) -> tuple[str, ...]:
    """``volume create``, always without force: gluster itself then refuses a brick on the root file system."""
    bricks = [f"{address}:{path}" for address, path in bricks_of(volume, hosts)]
    return checked(("volume", "create", name(volume.gluster_name), *counts(volume.spec.durability), *bricks))


def bricks_of(volume: Volume, hosts: Sequence[Host]) -> tuple[tuple[str, str], ...]:
    """The bricks as gluster names them; ``hosts[i]`` carries ``volume.bricks[i]``."""
    return tuple((host.storage, brick.path) for host, brick in zip(hosts, volume.bricks, strict=True))


def counts(durability: Durability) -> tuple[str, ...]:
    """How many bricks make a set, as ``volume create`` is told."""
    match durability.protection:
        case Protection.NONE:
            return ()
        case Protection.REPLICATE:
            return ("replica", str(durability.set_size), *(("arbiter", "1") if durability.arbiter else ()))
        case Protection.DISPERSE:
            return ("disperse-data", str(durability.data), "redundancy", str(durability.redundancy))


def addition(volume: Volume, new: Sequence[tuple[Host, Brick]]) -> tuple[str, ...]:
    """``volume add-brick`` of one more copy for each set, or of further sets; without force."""
    bricks = [f"{host.storage}:{brick.path}" for host, brick in new]
    copies = counts(volume.spec.durability) if len(new) < volume.spec.durability.set_size else ()
    return checked(("volume", "add-brick", name(volume.gluster_name), *copies, *bricks))


def options(volume: str, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """``volume set`` with all pairs. Raises: InvalidRequest."""
    words = ["volume", "set", name(volume)]
    for key, value in pairs:
        if not _KEY.fullmatch(key) or key in _NOT_KEYS:
            raise InvalidRequest("volume option", key, "the name of an option, like performance.io-cache")
        if not _PRINTABLE.fullmatch(value) or value.startswith("--") or len(value.encode()) > VALUE_LIMIT:
            raise InvalidRequest(
                f"value of the volume option {key}",
                value,
                f"1 to {VALUE_LIMIT} bytes without control characters that do not begin with --",
            )
        words += (key, value)
    return tuple(words)

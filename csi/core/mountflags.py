"""The mount flags of a volume capability: what each becomes, and which are refused.

They are those of ``mount -t glusterfs -o``. Some become arguments of the ``glusterfs`` client, some flags of the bind
mount that a pod gets; some mean nothing here, since the driver itself mounts and unmounts. What names files, other
volumes or translators is refused: a flag must not reach past the volume that it comes with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from csi.core import mountsource, topologyfile
from csi.core.errors import InvalidRequest

FIELD = "mount flag"

_LARGEST_TOTAL = 4096  # bytes, the CSI specification's limit

_LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE")
_BOOLEANS = frozenset({"on", "off", "yes", "no", "true", "false", "enable", "disable", "1", "0"})
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", re.ASCII)
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClientFlags:
    """``client``: arguments of the client besides the driver's own; ``bind``: options of a bind mount."""

    client: tuple[str, ...] = ()
    bind: tuple[str, ...] = ()
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class _Values:
    """What the value of a flag may be."""

    allowed: str
    admits: Callable[[str], bool]


def _integer(least: int, most: int) -> _Values:
    return _Values(
        f"a whole number from {least} to {most}",
        lambda value: _INTEGER.fullmatch(value) is not None and least <= int(value) <= most,
    )


_BOOLEAN = _Values("on or off", lambda value: value.lower() in _BOOLEANS)
_TIME = _Values("seconds, as 1 or 0.5", lambda value: _SECONDS.fullmatch(value) is not None)

# Flags whose value goes to the client under the same name.
_VALUED = {
    "attr-times-granularity": _integer(1, 1_000_000_000 - 1),
    "attribute-timeout": _TIME,
    "auto-invalidation": _BOOLEAN,
    "background-qlen": _integer(1, 65535),
    "congestion-threshold": _integer(1, 65535),
    "direct-io-mode": _Values("on, off or auto", lambda value: value.lower() in _BOOLEANS | {"auto"}),
    "entry-timeout": _TIME,
    "event-history": _BOOLEAN,
    "fopen-keep-cache": _BOOLEAN,
    "gid-timeout": _integer(0, 999_999),  # this one takes no fractions
    "invalidate-limit": _integer(0, 999_999_999),
    "kernel-writeback-cache": _BOOLEAN,
    "log-level": _Values(f"one of {', '.join(_LOG_LEVELS)}", lambda value: value.upper() in _LOG_LEVELS),
    "lru-limit": _integer(0, 999_999_999),
    "negative-timeout": _TIME,
    "oom-score-adj": _integer(-1000, 1000),
    "reader-thread-count": _integer(1, 64),
    "use-readdirp": _BOOLEAN,
}
# Flags without a value that the client has under the same name.
_PLAIN = frozenset({"acl", "enable-ino32", "global-threading", "localtime-logging", "resolve-gids", "selinux", "worm"})
_OPTIONAL = frozenset({"fopen-keep-cache"})  # may stand without its value

_SERVERS = ("backup-volfile-servers", "backupvolfile-server")

# Flags of the kernel, kept for the mount that the pod sees. Of each row one can hold.
_BIND = (
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("atime", "noatime", "relatime", "strictatime"),
    ("diratime", "nodiratime"),
)
_ROWS = {flag: row for row in _BIND for flag in row}

# Said to mount(8) or by it; the driver mounts when it is asked and unmounts by itself.
_WITHOUT_EFFECT = frozenset({"defaults", "auto", "noauto", "_netdev", "nofail", "auto_unmount"})

_REASONS = {
    "log-file": "the driver chooses the files of the logs (node.log_dir)",
    "subdir-mount": "a volume is mounted whole; use subPath in the pod",
    "xlator-option": "options belong into the class: volumeOptions, pingTimeout",
}

ALLOWED = (
    "ro",
    "rw",
    *sorted(_ROWS),
    *sorted(_PLAIN),
    *(f"{name}=..." for name in (*sorted(_VALUED), *_SERVERS)),
)


def check(flags: Sequence[str]) -> ClientFlags:
    """Raises: InvalidRequest naming the flag and what is allowed."""
    size = sum(len(flag.encode(errors="replace")) for flag in flags)
    if size > _LARGEST_TOTAL:
        raise InvalidRequest("mount flags", f"{size} bytes", f"at most {_LARGEST_TOTAL} bytes together")
    client: dict[str, tuple[str, ...]] = {}
    bind: dict[tuple[str, ...], str] = {}
    access = ""
    # One entry may hold several, as on the command line of mount.
    for flag in (part.strip(" ") for entry in flags for part in entry.split(",")):
        name, separator, value = flag.partition("=")
        if not flag or (name in _WITHOUT_EFFECT and not separator) or name.startswith("x-"):
            continue
        if flag in ("ro", "rw"):
            access = _one(access, flag)
        elif flag in _ROWS:
            bind[_ROWS[flag]] = _one(bind.get(_ROWS[flag], ""), flag)
        else:
            arguments = tuple(_arguments(name, value if separator else None))
            if client.setdefault(name, arguments) != arguments:
                raise InvalidRequest(FIELD, flag, f"each flag once, and {name} has another value before")
    return ClientFlags(
        client=tuple(argument for arguments in client.values() for argument in arguments),
        bind=tuple(bind.values()),
        read_only=access == "ro",
    )


def check_arguments(arguments: Sequence[str]) -> None:
    """Hold arguments of a client to what ``check`` makes of flags: for whoever gets them from another process.

    Raises: InvalidRequest naming the first one that no flag becomes.
    """
    if sum(len(argument.encode(errors="replace")) for argument in arguments) > 2 * _LARGEST_TOTAL:
        raise InvalidRequest("arguments", f"{len(arguments)} of them", f"at most {2 * _LARGEST_TOTAL} bytes together")
    for argument in arguments:
        name, separator, value = argument.removeprefix("--").partition("=")
        if name == "volfile-server" and argument.startswith("--") and mountsource.is_server(value):
            continue
        if tuple(_arguments(name, value if separator else None)) != (argument,):
            raise InvalidRequest(FIELD, name, "it is not written as the driver writes it")


def _one(before: str, flag: str) -> str:
    if before not in ("", flag):
        raise InvalidRequest(FIELD, flag, f"it contradicts {before!r}, which is there too")
    return flag


def _arguments(name: str, value: str | None) -> Iterator[str]:
    """What the flag is on the client's command line."""
    if value is None and name in _PLAIN | _OPTIONAL:
        yield f"--{name}"
    elif value is not None and name in _VALUED:
        if not _VALUED[name].admits(value):
            raise InvalidRequest(FIELD, f"{name}={value}", f"{name} takes {_VALUED[name].allowed}")
        yield f"--{name}={value.upper() if name == 'log-level' else value}"
    elif value is not None and name in _SERVERS:
        # After the driver's own, so they are asked last.
        for server in value.split(":"):
            if not topologyfile.is_host(server):
                raise InvalidRequest(FIELD, f"{name}={value}", f"{name} takes names of hosts with ':' between them")
            yield f"--volfile-server={server}"
    else:
        # Only its name: the value of an unknown flag may be a secret.
        reason = _REASONS.get(name, f"the allowed ones are {', '.join(ALLOWED)}")
        raise InvalidRequest(FIELD, name, reason)

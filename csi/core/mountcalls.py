"""What the node plug-in and the daemon that holds the GlusterFS clients say to each other.

A frame is the length of a JSON document (4 bytes, the most significant first) and the document. A connection carries
any number of requests at once, told apart by their ids; closing it gives up those that are not answered. The two
programs are updated at different times, the daemon last: fields that one does not know are passed over, a call
that it does not know is refused, and ``version`` changes only when old requests can no longer be understood.
"""

from __future__ import annotations

import posixpath
from typing import TypeAlias

import msgspec

from csi.core import documents, mountflags, mountsource
from csi.core.errors import InvalidRequest

VERSION = 1
LARGEST = 64 << 10  # bytes of a document
HEADER = 4  # bytes

FAILED = "failed"  # MountFailed: the text is for the one who asked for the mount
REFUSED = "refused"  # the request is not one that a node plug-in would make
UNAVAILABLE = "unavailable"

_LONGEST_PATH = 4095  # bytes; the kernel's PATH_MAX without the final NUL
_MOST_TARGETS = 4096


class Source(msgspec.Struct, frozen=True):
    """As ``ports.MountSource``."""

    servers: tuple[str, ...]
    volume: str
    ping_timeout: int
    flags: tuple[str, ...] = ()
    read_only: bool = False


class Start(msgspec.Struct, frozen=True, tag="start"):
    """A client for ``source`` at ``target``. The same again joins, or confirms."""

    source: Source
    target: str


class Runs(msgspec.Struct, frozen=True, tag="runs"):
    """Does a client run that was told to mount at one of these?"""

    targets: tuple[str, ...]


class End(msgspec.Struct, frozen=True, tag="end"):
    """The mount of ``device`` ("major:minor") at ``target`` is gone: see to the end of its client."""

    volume: str
    target: str
    device: str
    silent: bool = False  # it did not answer before


class Abandon(msgspec.Struct, frozen=True, tag="abandon"):
    """Leave nothing of a client of ``volume`` at ``target``."""

    volume: str
    target: str


Call: TypeAlias = Start | Runs | End | Abandon


class Request(msgspec.Struct, frozen=True):
    """``timeout``: seconds until nobody waits for the answer any more."""

    version: int
    id: str
    timeout: float
    call: Call


class Fault(msgspec.Struct, frozen=True):
    kind: str
    text: str


class Reply(msgspec.Struct, frozen=True):
    id: str
    fault: Fault | None = None
    runs: bool = False


class _Envelope(msgspec.Struct, frozen=True):
    """What every version has."""

    version: int
    id: str


class Misunderstood(ValueError):
    """A frame that can be answered, but not be obeyed."""

    def __init__(self, request_id: str, text: str) -> None:
        super().__init__(text)
        self.request_id = request_id


def frame(message: Request | Reply) -> bytes:
    """Raises: ValueError if it is larger than ``LARGEST``, or a text has no JSON form."""
    document = documents.encode(message)
    if len(document) > LARGEST:
        raise ValueError(f"a message of {len(document)} bytes is larger than {LARGEST}")
    return len(document).to_bytes(HEADER, "big") + document


def length(header: bytes) -> int:
    """Of the document that follows. Raises: ValueError if nobody here writes such a long one."""
    size = int.from_bytes(header, "big")
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes is larger than {LARGEST}")
    return size


def read_request(document: bytes) -> Request:
    """Checked. Raises: Misunderstood (another version, an unknown call, a value that is not accepted), ValueError."""
    envelope = documents.decode(document, _Envelope)
    if envelope.version != VERSION:
        raise Misunderstood(envelope.id, f"this daemon speaks version {VERSION}, not {envelope.version}: update it")
    try:
        request = documents.decode(document, Request)
        _check(request)
    except (ValueError, InvalidRequest) as error:
        raise Misunderstood(envelope.id, str(error)) from error
    return request


def read_reply(document: bytes) -> Reply:
    """Raises: ValueError."""
    return documents.decode(document, Reply)


def _check(request: Request) -> None:
    """Raises: InvalidRequest. Where the targets lie is checked by whoever can look at the paths."""
    if not 0 < request.timeout <= 86400:
        raise InvalidRequest("timeout", request.timeout, "seconds, more than 0 and up to a day")
    match request.call:
        case Start(source, target):
            _check_source(source)
            _check_target(target)
        case Runs(targets):
            if len(targets) > _MOST_TARGETS:
                raise InvalidRequest("targets", f"{len(targets)} of them", f"at most {_MOST_TARGETS}")
        case End(volume, target) | Abandon(volume, target):
            _check_volume(volume)
            _check_target(target)


def _check_source(source: Source) -> None:
    if not 1 <= len(source.servers) <= mountsource.MOST_SERVERS:
        raise InvalidRequest("servers", f"{len(source.servers)} of them", f"1 to {mountsource.MOST_SERVERS}")
    for server in source.servers:
        if not mountsource.is_server(server):
            raise InvalidRequest("servers", server, "host names or addresses")
    _check_volume(source.volume)
    if not 1 <= source.ping_timeout <= mountsource.LONGEST_PING_TIMEOUT:
        raise InvalidRequest("ping_timeout", source.ping_timeout, f"1 to {mountsource.LONGEST_PING_TIMEOUT} seconds")
    mountflags.check_arguments(source.flags)


def _check_volume(volume: str) -> None:
    if not mountsource.is_volume(volume):
        raise InvalidRequest("volume", volume, "the name of a Gluster volume")


def _check_target(target: str) -> None:
    fits = len(target.encode(errors="replace")) <= _LONGEST_PATH and "\0" not in target
    if not fits or not target.startswith("/") or posixpath.normpath(target) != target or target == "/":
        raise InvalidRequest("target", target, "a plain absolute path: no '.', '..' or '//', no '/' at the end")

"""Every error that this program raises on purpose, grouped by who can do something about it.

Errors carry data; the sentence is made here, once, and names the thing, the reason and the remedy.
They say nothing of gRPC or HTTP: ``driver/status.py`` has the one table from class to gRPC status.
An error is *final* when nothing was left behind and the caller may forget the request; the others
say that work may still be in progress (CSI: ABORTED, UNAVAILABLE, DEADLINE_EXCEEDED).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DriverError(Exception):
    """The root. Never raised itself."""


# --- the caller has to change the request -----------------------------------------------------


class InvalidRequest(DriverError):
    """A field of the request is missing or wrong."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        shown = repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        super().__init__(f"{field}: {shown} is not accepted: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class InvalidToken(DriverError):
    """A paging token that this driver did not give out, or that a restart made worthless."""

    def __init__(self, token: str) -> None:
        super().__init__(f"starting_token {token[:64]!r} is not a token of this list: start again without one")


class NotFound(DriverError):
    """The named thing is not known."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name[:128]!r} does not exist")
        self.kind = kind
        self.name = name


class Conflict(DriverError):
    """The thing exists already and differs from what is asked for."""

    def __init__(self, kind: str, name: str, difference: str) -> None:
        super().__init__(f"{kind} {name[:128]!r} exists already and differs: {difference}")
        self.kind = kind
        self.name = name
        self.difference = difference


class SizeOutOfRange(DriverError):
    """The size cannot be had, whatever the state of the pool."""


class TooLarge(SizeOutOfRange):
    """A volume can't grow to that size; ``largest`` is what it can have, in bytes.

    Of the caller's request, not of the moment: csi-resizer lets a claim ask for less only after such an answer.
    """

    def __init__(self, largest: int, reason: str) -> None:
        super().__init__(reason)
        self.largest = largest


class InUse(DriverError):
    """The thing is in use and must be freed first."""


class NotStaged(DriverError):
    """A volume is to be published from a staging path where it is not mounted: NodeStageVolume comes first."""


class CannotCopy(DriverError):
    """Copies of a volume's bricks cannot be made where they are, whoever asks and when."""


class NoRoom(DriverError):
    """Where a copy has to be, or a brick grow, there is no room for it: on its device, or in its thin pool."""


class TooMany(DriverError):
    """A limit that an administrator has set is reached."""


class Unsupported(DriverError):
    """A thing that this driver does not do."""


# --- the caller has to come back later --------------------------------------------------------


class Busy(DriverError):
    """Another operation on the same thing is under way; the same request again will tell."""


class Unavailable(DriverError):
    """The service is starting or stopping, or a part of the pool is away."""


# --- an administrator has to act --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why one device took no part in a placement."""

    device: str  # "host:path"
    rule: str  # "offline", "host offline", "tag", "no space", ...
    detail: str


class NoSpace(DriverError):
    """No layout obeys all rules.

    ``largest`` is the size in bytes of the largest volume of this class that would fit, 0 for none.
    """

    def __init__(self, asked: int, largest: int, reason: str, exclusions: Sequence[Exclusion]) -> None:
        shown = "; ".join(f"{e.device}: {e.rule} ({e.detail})" for e in exclusions[:8])
        more = f"; and {len(exclusions) - 8} more devices" if len(exclusions) > 8 else ""
        super().__init__(
            f"no space for a volume of {asked} bytes: {reason}; the largest that fits has {largest} bytes"
            + (f". Devices left out: {shown}{more}" if shown else "")
        )
        self.asked = asked
        self.largest = largest
        self.reason = reason
        self.exclusions = tuple(exclusions)


class GidsExhausted(DriverError):
    """Every GID of the class's range is in use or at rest."""


class HostUnreachable(DriverError):
    """No command reached the host, or the connection broke: the outcome of the last one is unknown."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"host {host} cannot be reached: {reason}")
        self.host = host
        self.reason = reason


class Superseded(HostUnreachable):
    """The host obeys a controller of a higher term, ``term``, and takes no command of this one."""

    def __init__(self, host: str, reason: str, term: int) -> None:
        super().__init__(host, reason)
        self.term = term


class CommandTimeout(DriverError):
    """A command did not end in its time. It has been ended on the host."""

    def __init__(self, host: str, argv: Sequence[str], seconds: float) -> None:
        super().__init__(f"host {host}: {' '.join(argv)[:200]!r} did not end within {seconds:g} s")
        self.host = host
        self.argv = tuple(argv)
        self.seconds = seconds


class CommandFailed(DriverError):
    """A command on a host ended with a status that it should not have."""

    def __init__(self, host: str, argv: Sequence[str], status: int, stderr: str) -> None:
        said = stderr.strip()[-500:] or "(no output)"
        super().__init__(f"host {host}: {' '.join(argv)[:200]!r} failed with status {status}: {said}")
        self.host = host
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr


class GlusterFailed(DriverError):
    """glusterd of ``host`` refused a command. ``errno`` is its opErrno; ``localhost`` in its ``text`` is that host."""

    def __init__(self, host: str, command: str, errno: int, text: str) -> None:
        super().__init__(f"gluster {command!r} on host {host} failed with error {errno}: {text}")
        self.host = host
        self.command = command
        self.errno = errno
        self.text = text


class MountFailed(DriverError):
    """A mount on this node did not come up or went bad."""


class StateUnusable(DriverError):
    """The state file is corrupt, read-only, of a newer version, or held by another process."""


class ConfigInvalid(DriverError):
    """The configuration has problems; all of them are listed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("configuration: " + "; ".join(problems))
        self.problems = tuple(problems)


# --- something is wrong that only an investigation can tell -----------------------------------


class Incoherent(DriverError):
    """The records and what a host says disagree. Nothing was changed; the evidence is in the message."""


class StaleState(DriverError):
    """A commit was made on versions that are no longer the present ones. Internal: read again, decide again."""

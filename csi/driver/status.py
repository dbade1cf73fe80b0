"""The one table from error to gRPC status. No other module chooses a code.

The caller of CreateVolume forgets the volume when a code is *final*, so a code other than ABORTED, UNAVAILABLE
and DEADLINE_EXCEEDED promises that nothing was left behind, or that the same name finds it again.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from csi.core import errors

_Code = grpc.StatusCode

TABLE: dict[type[errors.DriverError], grpc.StatusCode] = {
    # the caller has to change the request
    errors.InvalidRequest: _Code.INVALID_ARGUMENT,
    errors.InvalidToken: _Code.ABORTED,  # the specification's word for "start the list again"
    errors.NotFound: _Code.NOT_FOUND,
    errors.Conflict: _Code.ALREADY_EXISTS,
    errors.SizeOutOfRange: _Code.OUT_OF_RANGE,
    errors.TooLarge: _Code.OUT_OF_RANGE,
    errors.InUse: _Code.FAILED_PRECONDITION,
    errors.NotStaged: _Code.FAILED_PRECONDITION,
    errors.CannotCopy: _Code.FAILED_PRECONDITION,
    errors.NoRoom: _Code.RESOURCE_EXHAUSTED,
    errors.TooMany: _Code.RESOURCE_EXHAUSTED,
    errors.Unsupported: _Code.UNIMPLEMENTED,
    # the caller has to come back later
    errors.Busy: _Code.ABORTED,
    errors.Unavailable: _Code.UNAVAILABLE,
    # an administrator has to act
    errors.NoSpace: _Code.RESOURCE_EXHAUSTED,
    errors.GidsExhausted: _Code.RESOURCE_EXHAUSTED,
    errors.HostUnreachable: _Code.UNAVAILABLE,
    errors.CommandTimeout: _Code.DEADLINE_EXCEEDED,
    errors.CommandFailed: _Code.INTERNAL,
    errors.GlusterFailed: _Code.INTERNAL,
    errors.MountFailed: _Code.INTERNAL,
    # Not final: whether the last commit reached the disk is unknown, and so is what has to be undone.
    errors.StateUnusable: _Code.UNAVAILABLE,
    errors.ConfigInvalid: _Code.FAILED_PRECONDITION,
    # something is wrong that only an investigation can tell
    errors.Incoherent: _Code.INTERNAL,
    errors.StaleState: _Code.ABORTED,
}

# The text travels in an HTTP/2 header, percent-encoded; clients refuse headers beyond 8 KiB.
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Status:
    code: grpc.StatusCode
    message: str


def of(error: BaseException, request_id: str) -> Status:
    """What the caller is told. The text of an error that nobody foresaw stays in the log."""
    for kind in type(error).__mro__:
        if kind in TABLE:
            return Status(TABLE[kind], _bounded(str(error) or kind.__name__))
    return Status(_Code.INTERNAL, f"internal error; the driver's log tells more under request {request_id}")


def _bounded(text: str) -> str:
    raw = text.encode()
    if len(raw) <= _LONGEST:
        return text
    return raw[: _LONGEST - 3].decode(errors="ignore") + "..."

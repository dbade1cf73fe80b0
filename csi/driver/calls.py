"""Around every call: a request id, one line in the log, the metrics, and the status of an error.

Handlers raise errors of ``core/errors.py`` and know nothing of codes. The request id is in every line that is
logged on behalf of the call, since it is bound in a context variable that tasks inherit.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from prometheus_client import Counter, Histogram

from csi.core.errors import DriverError
from csi.driver import sanitize, status

_log = structlog.get_logger(__name__)

CALLS = Counter("gluster_csi_calls_total", "Calls that ended, by gRPC code.", ["method", "code"])
SECONDS = Histogram(
    "gluster_csi_call_seconds",
    "How long calls took.",
    ["method"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)

# Asked many times a minute by kubelet and the sidecars; logged only when they fail.
_FREQUENT = {
    "Check",
    "Watch",
    "Probe",
    "GetPluginInfo",
    "GetPluginCapabilities",
    "ControllerGetCapabilities",
    "NodeGetCapabilities",
    "NodeGetInfo",
    "NodeGetVolumeStats",
    "ControllerGetVolume",
    "GroupControllerGetCapabilities",
    "ListVolumes",
    "GetCapacity",
}

_SLOW = 10.0  # seconds; the sidecars' usual deadline

# In quotes: the types of grpc take parameters only in their stubs.
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]]


@dataclass(slots=True)
class _Outcome:
    """How the call ended; ``cause`` only if nobody foresaw it."""

    request_id: str
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    cause: BaseException | None = None

    def judge(self, error: BaseException, context: grpc.aio.ServicerContext[Any, Any]) -> bool:
        """Take the outcome from what the handler raised. True if the caller is still to be told."""
        match error:
            case asyncio.CancelledError() | GeneratorExit():
                # The client's deadline passed or it hung up: gRPC has answered already, and the task must end.
                self.code, self.message = grpc.StatusCode.CANCELLED, "the client went away, or the server stops"
                return False
            case grpc.aio.AbortError():
                self.code, self.message = _code(context.code()), context.details()
                return False
            case NotImplementedError() if _code(context.code()) is grpc.StatusCode.UNIMPLEMENTED:
                # What the generated classes do for methods that ours leave out.
                self.code, self.message = grpc.StatusCode.UNIMPLEMENTED, "this driver does not have this method"
                return True
            case Exception():
                answer = status.of(error, self.request_id)
                self.code, self.message = answer.code, answer.message
                self.cause = None if isinstance(error, DriverError) else error
                return True
            case _:  # the process is being ended
                self.code, self.cause = grpc.StatusCode.UNKNOWN, error
                return False


class Calls(grpc.aio.ServerInterceptor):
    """The only interceptor. ``slow``: seconds after which a call that still runs is noted in the log."""

    def __init__(self, slow: float = _SLOW) -> None:
        self._slow = slow

    async def intercept_service(  # type: ignore[override]  # typeshed asks for a handler, but unknown methods have none
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = short(handler_call_details.method)
        if handler.request_streaming:
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._single(method, handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _single(self, method: str, behaviour: Any) -> Callable[..., Any]:
        async def call(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._observed(method, request) as outcome:
                try:
                    reply = behaviour(request, context)
                    return await reply if inspect.isawaitable(reply) else reply
                except BaseException as error:
                    if not outcome.judge(error, context):
                        raise
            # Out here, so that the log has its line before the caller has the answer.
            return await context.abort(outcome.code, outcome.message)

        return call

    def _streaming(self, method: str, behaviour: Any) -> Callable[..., Any]:
        async def call(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            with self._observed(method, request) as outcome:
                try:
                    replies = behaviour(request, context)
                    if inspect.isawaitable(replies):  # a handler that writes them to the context
                        await replies
                        return
                    async for reply in replies:
                        yield reply
                    return
                except BaseException as error:
                    if not outcome.judge(error, context):
                        raise
            await context.abort(outcome.code, outcome.message)

        return call

    @contextmanager
    def _observed(self, method: str, request: Message) -> Iterator[_Outcome]:
        outcome = _Outcome(secrets.token_hex(4))
        fields = sanitize.loggable(request)
        began = time.monotonic()
        with structlog.contextvars.bound_contextvars(request=outcome.request_id, method=method):
            note = asyncio.get_running_loop().call_later(
                self._slow, lambda: _log.warning("call is slow", seconds=self._slow, fields=fields)
            )
            try:
                yield outcome
            finally:
                note.cancel()
                seconds = time.monotonic() - began
                CALLS.labels(method, outcome.code.name).inc()
                SECONDS.labels(method).observe(seconds)
                _line(method, outcome, seconds, fields)


def short(method: str) -> str:
    """``/csi.v1.Node/NodeStageVolume`` as ``Node/NodeStageVolume``."""
    return method.rsplit(".", 1)[-1].lstrip("/")


def _code(code: object) -> grpc.StatusCode:
    """A context gives the code as it was set, as its number, or 0 if it was not."""
    if isinstance(code, grpc.StatusCode):
        return code
    return next((known for known in grpc.StatusCode if known.value[0] == code), grpc.StatusCode.UNKNOWN)


def _line(method: str, outcome: _Outcome, seconds: float, fields: dict[str, Any]) -> None:
    facts = {"code": outcome.code.name, "seconds": round(seconds, 4), "fields": fields}
    if outcome.cause is not None:
        _log.error("call failed unforeseen", **facts, exc_info=outcome.cause)
    elif outcome.code is grpc.StatusCode.OK:
        quiet = method.rsplit("/", 1)[-1] in _FREQUENT
        (_log.debug if quiet else _log.info)("call", **facts)
    else:
        _log.warning("call refused", **facts, error=outcome.message)

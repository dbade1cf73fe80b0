"""Logging: one structured line per event on standard error, JSON or for people.

Fields that belong to a call (request id, volume) are bound in a context variable by the edge that takes the call.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from csi.nodeports import Notice


def configure(level: str, style: Literal["json", "text"]) -> None:
    """Called once, by the composition root."""
    # structlog prints the local variables of a traceback unless told otherwise, and a request is one: with its secrets.
    plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    exceptions = [structlog.processors.ExceptionRenderer(plain)] if style == "json" else []
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries that log in the standard way: only what is wrong.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


class LoggedNotices:
    """``Notices`` where there is nobody but the reader of the log."""

    async def tell(self, notice: Notice) -> None:
        structlog.get_logger(__name__).warning(
            "notice",
            kind=notice.kind.value,
            volume=notice.volume_id,
            path=notice.path,
            pod=notice.pod,
            text=notice.text,
        )

"""The Kubernetes API server as this program speaks to it: JSON documents by path, and streams of changes.

The way to a real one is in ``client.py``, apart from this: it brings libraries that cost as much memory as all the
rest of a process, also where there is no API server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from csi.core.errors import Unavailable

Document = dict[str, Any]
Body = Document | list[Document]


class ApiUnreachable(Unavailable):
    """The API server did not answer: whether it acted is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is that of HTTP, ``body`` what came with it."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """What the server says of a refusal, in one line."""
        try:
            return _DECODER.decode(self.body).message or f"status {self.status}"
        except msgspec.MsgspecError:
            return f"status {self.status}"


class _Refusal(msgspec.Struct):
    message: str = ""


_DECODER = msgspec.json.Decoder(_Refusal)


class Api(Protocol):
    """What the adapters need of an API server. The tests' double and the real one pass one contract suite."""

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        """The body of a PATCH is a JSON patch.

        Raises: ApiUnreachable if no answer came, whatever the server did.
        """

    def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The events of a watch, a JSON document each, until the server ends it.

        Raises: ApiUnreachable when the connection breaks; WatchRefused for any other answer than a stream.
        """

    async def close(self) -> None: ...


class WatchRefused(Unavailable):
    """The server answered a watch with a status; 410 means that its version is too old."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the API server refused a watch: {answer.reason}")
        self.status = answer.status

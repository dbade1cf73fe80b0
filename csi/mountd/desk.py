"""What the daemon does with a request: look where it points, do it, put the outcome into words.

Requests for the same target take turns. The same mount asked for twice is made once, and given up only when
nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import structlog

from csi.core import mountcalls
from csi.core.errors import DriverError, InvalidRequest, MountFailed, Unavailable
from csi.core.mountcalls import Abandon, End, Fault, Reply, Request, Runs, Source, Start
from csi.mountports import Clients, MountSource

_log = structlog.get_logger(__name__)


class HeldClients(Clients, Protocol):
    """The clients that this daemon holds."""

    async def abandon(self, volume: str, target: str) -> None:
        """Leave nothing of a client of ``volume`` at ``target``. Raises: MountFailed."""


@dataclass(slots=True)
class _Shared:
    task: asyncio.Task[None]
    waiting: int = 0


class Desk:
    """``roots``: the directories below which it mounts. ``resolve`` follows the links above a target."""

    def __init__(self, clients: HeldClients, roots: Sequence[str], resolve: Callable[[str], Awaitable[str]]) -> None:
        self._clients = clients
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._resolve = resolve
        self._starts: dict[tuple[MountSource, str], _Shared] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def answer(self, request: Request) -> Reply:
        """Never raises but when it is cancelled: then a mount that was under way leaves nothing."""
        began = asyncio.get_running_loop().time()
        fault, runs = None, False
        try:
            async with asyncio.timeout(request.timeout):
                runs = await self._do(request)
        except InvalidRequest as error:
            fault = Fault(mountcalls.REFUSED, str(error))
        except Unavailable as error:
            fault = Fault(mountcalls.UNAVAILABLE, str(error))
        except DriverError as error:
            fault = Fault(mountcalls.FAILED, str(error))
        except TimeoutError:
            fault = Fault(mountcalls.FAILED, f"the mounts daemon did not get it done within {request.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - the daemon serves others too
            _log.error("request failed unforeseen", request=request.id, exc_info=error)
            fault = Fault(mountcalls.FAILED, f"unforeseen error in the mounts daemon, request {request.id}: {error!r}")
        if not isinstance(request.call, Runs) or fault is not None:
            _log.info(
                "request",
                request=request.id,
                call=type(request.call).__name__.lower(),
                target=getattr(request.call, "target", ""),
                seconds=round(asyncio.get_running_loop().time() - began, 3),
                error=fault.text if fault else "",
            )
        return Reply(request.id, fault, runs)

    async def _do(self, request: Request) -> bool:
        match request.call:
            case Start(source, target):
                await self._start(_source(source), await self._allowed(target))
            case Runs(targets):
                return await self._clients.runs(targets)
            case End(volume, target, device, silent):
                path = await self._allowed(target)
                await self._in_turn(path, lambda: self._clients.end(volume, path, device, silent=silent))
            case Abandon(volume, target):
                path = await self._allowed(target)
                await self._in_turn(path, lambda: self._clients.abandon(volume, path))
        return False

    async def _allowed(self, target: str) -> str:
        """The target without links above it. Raises: InvalidRequest if it lies elsewhere than it may."""
        path = await self._resolve(target)
        if not any(path.startswith(root.rstrip("/") + "/") for root in self._roots):
            raise InvalidRequest("target", target, f"a path below {' or '.join(self._roots)} (mounts.roots)")
        return path

    async def _start(self, source: MountSource, target: str) -> None:
        key = (source, target)
        shared = self._starts.get(key)
        if shared is None:
            work = self._in_turn(target, lambda: self._clients.start(source, target))
            shared = self._starts[key] = _Shared(asyncio.create_task(work, name="start"))
        shared.waiting += 1
        try:
            await asyncio.shield(shared.task)
        except asyncio.CancelledError:
            if shared.task.cancelled():
                raise MountFailed(f"the mount at {target} was given up") from None
            raise
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                if self._starts.get(key) is shared:
                    del self._starts[key]
                shared.task.cancel()
                await asyncio.gather(shared.task, return_exceptions=True)

    async def _in_turn(self, target: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._turns.setdefault(target, asyncio.Lock()):
            await work()


def _source(source: Source) -> MountSource:
    return MountSource(source.servers, source.volume, source.ping_timeout, source.flags, source.read_only)

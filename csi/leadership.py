"""Which controller acts, where several stand by: the Lease, the gate before the hosts, the permission to write."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

from csi import tasks
from csi.core.errors import ConfigInvalid, Unavailable
from csi.hosts.gate import Gate, GatedRunner
from csi.kubernetes.client import KubernetesApi
from csi.kubernetes.events import Events, Subject
from csi.kubernetes.lease import Lease, LeaseTiming
from csi.ports import Runner
from csi.settings import Settings

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Leadership:
    """One per process. Gate and permission are closed until ``lead`` has returned, and again when the Lease is lost."""

    def __init__(self, settings: Settings) -> None:
        table = settings.kubernetes
        # A connection of its own: renewals must not wait behind commits.
        self._api = KubernetesApi(table.kubeconfig, timeout=table.renew_seconds / 2)
        timing = LeaseTiming(table.lease_seconds, table.renew_seconds, table.retry_seconds)
        # Never that of an earlier process: its commands may still be under way.
        self.holder = str(uuid.uuid4())
        identity = f"{socket.gethostname()}_{os.getpid()}_{self.holder}"
        namespace = table.namespace or _own_namespace()
        self._lease = Lease(self._api, namespace=namespace, name=table.lease, identity=identity, timing=timing)
        self._events = Events(self._api, settings.driver_name)
        self._subject = Subject("Lease", table.lease, namespace, api_version="coordination.k8s.io/v1")

    @property
    def lost(self) -> asyncio.Event:
        return self._lease.lost

    def term(self) -> int:
        return self._lease.term

    def permit(self) -> None:
        """Raises: Unavailable."""
        self._lease.permit()

    async def tell(self, message: str) -> None:
        """In an event of the Lease: who asks which controller acts looks there."""
        await self._events.tell(self._subject, "LateEffect", message)

    def gated(self, runner: Runner) -> Runner:
        return GatedRunner(runner, Gate(self.permit, self.lost, self._lease.outdo))

    async def lead(self, stack: AsyncExitStack, stop: asyncio.Event) -> bool:
        """Wait until this process leads; the stack gives the Lease back. False if ``stop`` came first."""
        stack.push_async_callback(self._api.close)
        leading, stopping = asyncio.ensure_future(self._lease.acquire()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():
                return False
            leading.result()
        finally:
            leading.cancel()
            stopping.cancel()
            await asyncio.gather(leading, stopping, return_exceptions=True)
        stack.push_async_callback(self._lease.release)
        holding = asyncio.create_task(self._lease.hold(), name="lease")
        stack.push_async_callback(tasks.end, [holding])
        return True

    async def serve(self, stop: asyncio.Event) -> None:
        """Until ``stop``. Raises: Unavailable when the Lease is lost, and when hosts obey another controller."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (stop, self.lost, self._lease.outdone)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if self.lost.is_set():
            raise Unavailable("this controller lost its lease and ends, so that nothing of it acts beside the next one")
        if self._lease.outdone.is_set() and not stop.is_set():
            raise Unavailable(
                "hosts obey another controller, as after the lease was deleted: the lease counts on from its term now, "
                "so the next leader, or this one begun anew, has a higher one. If this happens again and again, two "
                "installations with the same `instance` share the hosts: give each its own"
            )


def _own_namespace() -> str:
    try:
        return _NAMESPACE.read_text().strip()
    except OSError as error:
        raise ConfigInvalid(
            [f"kubernetes.namespace is not set, and {_NAMESPACE} cannot be read ({error.strerror}): set it"]
        ) from error

"""``Api`` over the Kubernetes client.

The client's classes for each kind are passed over. They would cost a creation more than all the rest, and custom
resources have none; what the client gives is the way there (kubeconfig, TLS, tokens that change, proxies).

Nothing is repeated in here. A request without an answer may have been carried out, and only its caller knows how to
find that out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from csi.core.errors import StateUnusable
from csi.kubernetes.api import Answer, ApiUnreachable, Body, WatchRefused

_TOKEN = "BearerToken"  # noqa: S105 - what the client calls the entry
_CHUNK = 1 << 16
_HEARTBEAT = 15.0  # seconds between two questions whether the other end of a websocket is there
_LINGER, _TURN = 20, 0.001  # turns of the loop, and the seconds that each takes at least


class KubernetesApi:
    """Implements ``Api`` over ``kubernetes.aio``. ``timeout``: seconds for a request."""

    def __init__(self, kubeconfig: str, timeout: float = 10.0) -> None:
        self._kubeconfig = kubeconfig
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._client: client.ApiClient | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Answer:
        try:
            response = await self._send(method, path, query, body, self._timeout)
            async with response:
                return Answer(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"the API server does not answer ({_told(error)})") from error

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        # Bookmarks come every minute, so a stream that is silent for longer is dead, whatever TCP believes.
        patience = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.total, sock_read=150)
        try:
            response = await self._send("GET", path, {**query, "watch": "1"}, None, patience)
            try:
                if response.status != 200:
                    raise WatchRefused(Answer(response.status, await response.read()))
                pending = b""
                async for chunk in response.content.iter_chunked(_CHUNK):
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        yield line
            finally:
                _hang_up(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"the watch of {path} broke ({_told(error)})") from error

    async def websocket(
        self, path: str, query: Sequence[tuple[str, str]], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        """A connection for a subprotocol; whether the server chose it is for the caller to look at.

        Raises: ApiUnreachable; aiohttp.WSServerHandshakeError if the server answers otherwise.
        """
        headers = {"User-Agent": "gluster-csi"}
        connected = await self._authorized(headers, path, "GET", None)
        rest = connected.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()
        try:
            async with asyncio.timeout(self._timeout.total):
                socket: aiohttp.ClientWebSocketResponse = await rest.pool_manager.ws_connect(
                    f"{connected.configuration.host}{path}?{urlencode(query)}",
                    headers=headers,
                    protocols=(protocol,),
                    proxy=rest.proxy,
                    heartbeat=_HEARTBEAT,
                    max_msg_size=0,
                )
                return socket
        except aiohttp.WSServerHandshakeError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"the API server does not answer ({_told(error)})") from error

    async def close(self) -> None:
        """For good: whoever asks later is told so, since nobody would close what he opened."""
        self._closed = True
        connected, self._client = self._client, None
        if connected is not None:
            await connected.close()
            # Connections that were cut off in their making let go of their sockets in the next turns of the loop, and
            # on a busy machine no time is enough for these.
            for _ in range(_LINGER):
                await asyncio.sleep(_TURN)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Body | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        # Uncompressed: the way is short, and packing costs the server more than sending.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "gluster-csi"}
        if method == "PATCH":
            headers["Content-Type"] = "application/json-patch+json"
        connected = await self._authorized(headers, path, method, body)
        url = connected.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        sent = await connected.rest_client.request(method, url, headers, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = sent.response
        return response

    async def _authorized(self, headers: dict[str, str], path: str, method: str, body: Body | None) -> client.ApiClient:
        connected = self._client or await self._connect()
        await connected.update_params_for_auth(headers, [], [_TOKEN], path, method, body)
        if self._closed:
            raise ApiUnreachable("the connection to the API server was closed")
        return connected

    async def _connect(self) -> client.ApiClient:
        async with self._connecting:
            if self._client is None:
                settings = client.Configuration()
                settings.retries = None
                # aiohttp would look for a proxy and for .netrc at each request, each in a thread of its own.
                settings.client_session_kwargs = {"trust_env": False}
                try:
                    if self._kubeconfig:
                        await config.load_kube_config(self._kubeconfig, client_configuration=settings)
                    else:
                        config.load_incluster_config(settings)
                except (ConfigException, OSError) as error:
                    where = self._kubeconfig or "the pod's service account"
                    raise StateUnusable(
                        f"{where} does not tell how to reach the API server ({error}): "
                        "set kubernetes.kubeconfig, or run in a pod with a service account token"
                    ) from error
                settings.proxy = settings.proxy or _proxy_for(settings.host)
                self._client = client.ApiClient(settings)
            return self._client


def _proxy_for(url: str) -> str | None:
    """As HTTPS_PROXY and NO_PROXY tell."""
    asked = urlsplit(url)
    return None if proxy_bypass(asked.netloc) else getproxies().get(asked.scheme)


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """End the connection of a stream at once: a polite end of TLS would wait for an answer that nobody reads."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__

"""A connection pool for calls to providers.

httpx's own pool looks through all its connections several times for every request: measured with 64 calls at once,
it spends 3.6 ms of processor time a call. Here a call takes an idle connection from the end of a list.
"""

import asyncio
import socket
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast
from urllib.request import getproxies, proxy_bypass

import httpx

_IDLE_SECONDS = 30.0
"""Shorter than any provider waits, so that it is us who close."""
_MAX_IDLE_CONNECTIONS = 200
"""To one provider; when more are idle, the oldest are closed. `Dispatch` bounds those in use."""
_SINGLE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)

_RECEIVE_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
"""Of the kernel, which doubles it. uvloop reads all that is there (up to 8 MiB) when one piece is asked for, and anyio
keeps it: by itself the kernel lets a fast provider have megabytes there while the caller of a stream reads nothing.
With 100 ms to the provider, about 1 MB/s remains."""

_Origin = tuple[str, str, int | None]
"""Scheme, host, port."""

OnSent = Callable[[], None]
ON_SENT = "everloop.sent"
"""Extension of a request: an `OnSent`, called when there is a connection and the request goes out on it."""
_CONNECTED = "connection.connect_tcp.complete"
_SEND_STARTED = "http11.send_request_headers.started"
"""https://www.encode.io/httpcore/extensions/#trace"""


class _Connection:
    """A transport with room for one connection, and the sockets it opened."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self.transport = transport
        self._sockets: list[Any] = []
        """httpcore's network streams. httpcore loses one whose TLS handshake is cancelled; `aclose` does not."""

    def trace(self, on_sent: OnSent) -> Callable[[str, Any], Awaitable[None]]:
        """Return an httpcore trace callback that keeps the sockets, and calls `on_sent` when a request goes out."""

        async def trace(event: str, info: Any) -> None:  # noqa: ANN401 - httpcore's own types
            nonlocal on_sent
            if event == _CONNECTED:
                self._sockets = [info["return_value"]]
            elif event == _SEND_STARTED:
                on_sent()
                on_sent = _ignore_sent  # the request lives longer than its call, and would keep what this belongs to

        return trace

    async def aclose(self) -> None:
        """Close the connection, however far it came."""
        for closing in (self.transport, *self._sockets):
            with suppress(Exception):
                await closing.aclose()


class Connections(httpx.AsyncBaseTransport):
    """A pool without an upper bound of its own. Proxies of the environment are used (`HTTPS_PROXY`, …)."""

    def __init__(self) -> None:
        self._tls = ssl.create_default_context()
        self._proxies = getproxies()
        self._idle: OrderedDict[_Origin, deque[tuple[float, _Connection]]] = OrderedDict()
        """By origin, with the time of release; the origin of the last release is at the end, and none is empty."""
        self._closing: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send; the connection is released when the response is closed."""
        origin = (request.url.scheme, request.url.host, request.url.port)
        connection = self._take_idle(origin) or self._open(origin)
        request.extensions["trace"] = connection.trace(request.extensions.pop(ON_SENT, _ignore_sent))
        try:
            response = await connection.transport.handle_async_request(request)
        except BaseException:
            self.discard(connection)
            raise
        response.stream = _PooledStream(cast("httpx.AsyncByteStream", response.stream), connection, self, origin)
        return response

    def _take_idle(self, origin: _Origin) -> _Connection | None:
        if (idle := self._idle.get(origin)) is None:
            return None
        _, connection = idle.pop()
        if not idle:
            del self._idle[origin]
        return connection

    def _open(self, origin: _Origin) -> _Connection:
        scheme, host, _ = origin
        # A proxy is for servers elsewhere, not for the model on this machine.
        local = host in {"127.0.0.1", "localhost", "::1"} or proxy_bypass(host)
        proxy = None if local else self._proxies.get(scheme) or self._proxies.get("all")
        transport = httpx.AsyncHTTPTransport(
            verify=self._tls, limits=_SINGLE_CONNECTION, proxy=proxy, socket_options=[_RECEIVE_BUFFER]
        )
        return _Connection(transport)

    def release(self, origin: _Origin, connection: _Connection) -> None:
        """Make a connection idle, and close those of any origin that have been idle for too long."""
        now = time.monotonic()
        idle = self._idle.setdefault(origin, deque())
        idle.append((now, connection))
        self._idle.move_to_end(origin)
        for expired in self._pop_expired(now - _IDLE_SECONDS):
            self.discard(expired)

    def discard(self, connection: _Connection) -> None:
        """Close a connection in a task of its own: the call it belongs to may be cancelled at any moment."""
        task = asyncio.get_running_loop().create_task(connection.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _pop_expired(self, before: float) -> list[_Connection]:
        """Remove and return connections released earlier than `before`, and those beyond the maximum."""
        newest = next(reversed(self._idle.values()))
        expired = [newest.popleft()[1] for _ in range(len(newest) - _MAX_IDLE_CONNECTIONS)]
        while newest[0][0] < before:
            expired.append(newest.popleft()[1])
        # The first origin's last release is the oldest; the loop ends at the latest at the connection just released.
        while next(iter(self._idle.values()))[-1][0] < before:
            _, unused = self._idle.popitem(last=False)
            expired += [connection for _, connection in unused]
        return expired

    async def aclose(self) -> None:
        """Close the idle connections; the others close with their calls."""
        while self._idle:
            for _, connection in self._idle.popitem()[1]:
                self.discard(connection)
        while self._closing:
            await asyncio.wait(self._closing)


def _ignore_sent() -> None:
    """The default `OnSent`."""


class _PooledStream(httpx.AsyncByteStream):
    """The body of a response; closing it releases the connection."""

    def __init__(
        self, body: httpx.AsyncByteStream, connection: _Connection, pool: Connections, origin: _Origin
    ) -> None:
        self._body = body
        self._connection = connection
        self._pool = pool
        self._origin = origin

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            yield piece

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        except BaseException:
            self._pool.discard(self._connection)
            raise
        self._pool.release(self._origin, self._connection)

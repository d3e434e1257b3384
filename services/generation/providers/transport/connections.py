"""Connections to providers, kept open between calls.

httpx's own pool looks through all its connections several times for every request: measured with 64 calls at once,
it spends 3.6 ms of processor time a call. Here a call takes a free connection from the end of a list.
"""

import ssl
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast
from urllib.request import getproxies, proxy_bypass

import httpx

_IDLE_SECONDS = 30.0
"""Shorter than any provider waits, so that it is us who close."""
_IDLE_CONNECTIONS = 200
"""To one provider; when more are free, the oldest are closed. Those in use are bounded by the calls at a time."""
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)

_Origin = tuple[str, str, int | None]

Sent = Callable[[], None]
SENT = "everloop.sent"
"""Extension of a request: a `Sent`, called when there is a connection and the request goes out on it."""
_GOING_OUT = "http11.send_request_headers.started"
"""https://www.encode.io/httpcore/extensions/#trace"""


class Connections(httpx.AsyncBaseTransport):
    """As many connections as there are calls at a time. Proxies of the environment are used (`HTTPS_PROXY`, …)."""

    def __init__(self) -> None:
        self._tls = ssl.create_default_context()
        self._proxies = getproxies()
        self._free: OrderedDict[_Origin, deque[tuple[float, httpx.AsyncHTTPTransport]]] = OrderedDict()
        """By origin, the one that got a connection back last at the end; none without a connection."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send; the connection is free again when the response is closed."""
        origin = (request.url.scheme, request.url.host, request.url.port)
        connection = self._take(origin)
        sent: Sent | None = request.extensions.get(SENT)
        if sent and connection is None:
            request.extensions["trace"] = _telling(sent)
        elif sent:
            sent()
        connection = connection or self._open(origin)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await connection.aclose()
            raise
        response.stream = _Borrowed(cast("httpx.AsyncByteStream", response.stream), connection, self, origin)
        return response

    def _take(self, origin: _Origin) -> httpx.AsyncHTTPTransport | None:
        """One that is open and free."""
        if (free := self._free.get(origin)) is None:
            return None
        _, connection = free.pop()
        if not free:
            del self._free[origin]
        return connection

    def _open(self, origin: _Origin) -> httpx.AsyncHTTPTransport:
        scheme, host, _ = origin
        # A proxy is for the world outside, not for the model on this machine.
        inside = host in {"127.0.0.1", "localhost", "::1"} or proxy_bypass(host)
        proxy = None if inside else self._proxies.get(scheme) or self._proxies.get("all")
        return httpx.AsyncHTTPTransport(verify=self._tls, limits=_ONE, proxy=proxy)

    async def give_back(self, origin: _Origin, connection: httpx.AsyncHTTPTransport) -> None:
        """Keep it for the next call; close those that nobody took for long, whomever they lead to."""
        now = time.monotonic()
        free = self._free.setdefault(origin, deque())
        free.append((now, connection))
        self._free.move_to_end(origin)
        for old in self._outdated(now - _IDLE_SECONDS):
            await old.aclose()

    def _outdated(self, moment: float) -> list[httpx.AsyncHTTPTransport]:
        """Taken out: what was given back before `moment`, and what is too much."""
        ours = next(reversed(self._free.values()))
        outdated = [ours.popleft()[1] for _ in range(len(ours) - _IDLE_CONNECTIONS)]
        while ours[0][0] < moment:
            outdated.append(ours.popleft()[1])
        # Whoever stands first got its last connection back longest ago; the newest of all is ours.
        while next(iter(self._free.values()))[-1][0] < moment:
            _, unused = self._free.popitem(last=False)
            outdated += [connection for _, connection in unused]
        return outdated

    async def aclose(self) -> None:
        """Close the free ones; the others close with their calls."""
        while self._free:
            for _, connection in self._free.popitem()[1]:
                await connection.aclose()


def _telling(sent: Sent) -> Callable[[str, object], Awaitable[None]]:
    async def trace(event: str, _: object) -> None:
        if event == _GOING_OUT:
            sent()

    return trace


class _Borrowed(httpx.AsyncByteStream):
    """The body of a response, and the connection it comes through."""

    def __init__(
        self, body: httpx.AsyncByteStream, connection: httpx.AsyncHTTPTransport, owner: Connections, origin: _Origin
    ) -> None:
        self._body = body
        self._connection = connection
        self._owner = owner
        self._origin = origin

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()
        await self._owner.give_back(self._origin, self._connection)

"""One HTTP/1.1 request and its response over a connection of its own, read within bounds: a caller named the server.

The connection is closed when the exchange ends, however it ends. There are no idle connections and no pool that could
lose one (docs/decisions/0010).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11

_MAX_HEADER_BYTES = 32 * 1024
"""Of a response's status line and headers, of the line before a chunk, and of trailers."""
_MAX_INFORMATIONAL = 10
"""Responses with a status of 1xx before the one that counts."""
_FREE_PIECES = 1024
_BYTES_PER_PIECE = 128
"""A body may come in `_FREE_PIECES` pieces, and more if they have so many bytes on average: each costs processor time,
and a server could send every byte as a chunk of its own."""
_READ_BYTES = 64 * 1024
_TLS_SHUTDOWN_SECONDS = 1.0
"""How long a connection that is closed in the middle of its opening waits for the server to agree."""

OnReceived = Callable[[int], None]
"""Called with the length of every piece of a body, in bytes; may raise to end the exchange."""


class CannotConnect(Exception):  # noqa: N818 - the client says what it means to its caller
    """No address of the server takes a connection, or its certificate is not valid."""


class NoHttp(Exception):  # noqa: N818
    """The server does not speak HTTP as it should, or the request cannot be written."""


@asynccontextmanager
async def connect(
    addresses: Sequence[str], port: int, tls: ssl.SSLContext | None, server_name: str, connect_seconds: float
) -> AsyncIterator["Exchange"]:
    """Connect to the first address that answers, each within `connect_seconds`, and close the connection in the end.

    `tls`, if given, verifies `server_name`. Raises CannotConnect.
    """
    reader, writer = await _open(addresses, port, tls, server_name, connect_seconds)
    try:
        yield Exchange(reader, writer)
    finally:
        writer.transport.abort()  # at once, whatever the server does


async def _open(
    addresses: Sequence[str], port: int, tls: ssl.SSLContext | None, server_name: str, connect_seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl": tls, "server_hostname": server_name, "ssl_shutdown_timeout": _TLS_SHUTDOWN_SECONDS}
    last_error: Exception | None = None
    for address in addresses:
        try:
            async with asyncio.timeout(connect_seconds):
                return await asyncio.open_connection(address, port, **options)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: a name no certificate can have
            last_error = error
    raise CannotConnect from last_error


class Exchange:
    """A request and its response, once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEADER_BYTES)
        self._unread_bytes = _MAX_HEADER_BYTES * (_MAX_INFORMATIONAL + 1)
        """What may still come, framing included."""

    async def send(
        self, method: str, target: str, headers: list[tuple[str, str]], content: bytes | None
    ) -> h11.Response:
        """Send a request and return the response without its body. Raises NoHttp."""
        try:
            message = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
            message += (self._http.send(h11.Data(content)) or b"") if content else b""
            self._writer.write(message + (self._http.send(h11.EndOfMessage()) or b""))
            with suppress(OSError):  # a server may answer and close before it has read everything
                await self._writer.drain()
            for _ in range(_MAX_INFORMATIONAL + 1):
                if isinstance(event := await self._next_event(), h11.Response):
                    return event
                if not isinstance(event, h11.InformationalResponse):
                    break
        except (h11.ProtocolError, OSError) as error:
            raise NoHttp from error
        raise NoHttp

    async def read_body(self, max_bytes: int, on_received: OnReceived) -> bytearray | None:
        """Return the body, or None if it has more than `max_bytes`. Raises NoHttp, and what `on_received` raises."""
        self._unread_bytes += 2 * max_bytes
        body, pieces = bytearray(), 0
        try:
            while isinstance(event := await self._next_event(), h11.Data):
                body += event.data
                pieces += 1
                if len(body) > max_bytes:
                    return None
                if pieces > _FREE_PIECES + len(body) // _BYTES_PER_PIECE:
                    raise NoHttp
                on_received(len(event.data))
        except (h11.ProtocolError, OSError) as error:
            raise NoHttp from error
        return body

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            received = await self._reader.read(_READ_BYTES)
            self._unread_bytes -= len(received)
            if self._unread_bytes < 0:
                raise NoHttp
            self._http.receive_data(received)
        return event

"""A server that ends, or does not end, its connections in every way there is: the path says which."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_PAUSE_SECONDS = 0.005
_FOR_EVER_SECONDS = 60.0


def _write(*pieces: bytes, pause_seconds: float = 0.0) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return behave


def _endlessly(piece: bytes, start: bytes = b"", pause_seconds: float = 0.0) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return behave


def _then_reset(start: bytes) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        # SO_LINGER with 0 seconds: closing sends RST (socket(7)).
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


def _then_half_close(start: bytes) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        if writer.can_write_eof():
            writer.write_eof()
            await asyncio.sleep(_FOR_EVER_SECONDS)

    return behave


async def _be_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    await asyncio.sleep(_FOR_EVER_SECONDS)


BEHAVIOURS: dict[str, Behaviour] = {
    "fine": _write(_OK + b"Content-Length: 2\r\n\r\n{}"),
    "fine-by-close": _write(_OK + b"Connection: close\r\n\r\n{}"),
    "fine-after-100": _write(b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\n{}"),
    "silent": _be_silent,
    "drips-headers": _endlessly(b"X-A: b\r\n", _OK, _PAUSE_SECONDS),
    "drips-body": _endlessly(b" ", _OK + b"Content-Length: 1000000\r\n\r\n", _PAUSE_SECONDS),
    "endless-headers": _endlessly(b"X-A: b\r\n" * 100, _OK),
    "endless-header": _endlessly(b"x" * 1000, _OK + b"X-A: "),
    "endless-informational": _endlessly(b"HTTP/1.1 102 Processing\r\n\r\n" * 10),
    "endless-body": _endlessly(b"x" * 10_000, _OK + b"\r\n"),
    "endless-chunks": _endlessly(b"1\r\nx\r\n" * 100, _OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "endless-extension": _endlessly(b";a=b" * 100, _OK + b"Transfer-Encoding: chunked\r\n\r\n5"),
    "endless-extensions": _endlessly(
        (b"1" + b";a=b" * 1000 + b"\r\nx\r\n"), _OK + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "endless-trailers": _endlessly(b"X-A: b\r\n" * 100, _OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"),
    "closes-at-once": _write(b""),
    "resets-at-once": _then_reset(b""),
    "resets-in-headers": _then_reset(_OK),
    "resets-in-body": _then_reset(_OK + b"Content-Length: 100\r\n\r\n{"),
    "half-closes-at-once": _then_half_close(b""),
    "half-closes-in-headers": _then_half_close(_OK),
    "half-closes-in-body": _then_half_close(_OK + b"Content-Length: 100\r\n\r\n{"),
    "closes-in-chunk": _write(_OK + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{"),
    "no-http": _write(b"220 mail.example ESMTP\r\n"),
    "says-more-than-it-has": _write(_OK + b"Content-Length: 2\r\n\r\n{}" + b"HTTP/1.1 200 OK\r\n\r\n{}"),
    "redirects-to-itself": _write(b"HTTP/1.1 302 Found\r\nLocation: /redirects-to-itself\r\nContent-Length: 0\r\n\r\n"),
    "redirects-to-silence": _write(b"HTTP/1.1 307 Go\r\nLocation: /silent\r\nContent-Length: 0\r\n\r\n"),
}


class MisbehavingServer:
    """Its URLs, and how many connections are open."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.port = 0
        self.open = 0
        self.peak = 0
        self._scheme = "http" if tls is None else "https"
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, behaviour: str) -> str:
        """Return the URL that behaves so."""
        return f"{self._scheme}://127.0.0.1:{self.port}/{behaviour}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["MisbehavingServer"]:
        """Listen on a free port of this loop as long as the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                name = await _read_request(reader)
                while name == "fine":  # and keeps the connection
                    await BEHAVIOURS[name](reader, writer)
                    name = await _read_request(reader)
                behaviour = asyncio.ensure_future(BEHAVIOURS[name](reader, writer))
                left = asyncio.ensure_future(_until_gone(reader))
                try:
                    await asyncio.wait([behaviour, left], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for started in (behaviour, left):
                        started.cancel()
                    await asyncio.gather(behaviour, left, return_exceptions=True)
        except asyncio.CancelledError:
            pass  # the test has ended
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.transport.abort() if self._tls else writer.close()


async def _read_request(reader: asyncio.StreamReader) -> str:
    """Return the first part of the path of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return head.split(b" ", 2)[1].decode().strip("/").split("/")[0]


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """Return when the caller has closed the connection."""
    while await reader.read(65_536):
        pass


@contextlib.contextmanager
def unconnectable() -> Iterator[int]:
    """Yield a port at which connecting neither succeeds nor fails: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]

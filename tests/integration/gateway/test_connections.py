"""Connections of the HTTP server that no client library makes: every one ends, and a request in hand with it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.gateway.server.server import serve_http
from services.gateway.settings import Settings
from shared.bus import Bus
from tests.integration.bus.job_fixtures import until
from tests.integration.servers import free_port

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


class Application:
    """Answers a path that is a number with as many bytes, `/stream` without an end, others with the request's body."""

    def __init__(self) -> None:
        self.streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/")
        response: Response
        if name == "stream":
            response = StreamingResponse(self._stream())
        elif name.isdigit():
            response = Response(b"x" * int(name))
        else:
            response = Response(name.encode() + b":" + await Request(scope, receive).body())
        await response(scope, receive, send)

    async def _stream(self) -> AsyncIterator[bytes]:
        self.streams += 1
        try:
            while True:
                yield b"part"
                await asyncio.sleep(0.01)
        finally:
            self.streams -= 1


class _Tasks(Bus):
    """A bus that is not connected, and only runs tasks."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.hooks: list[Any] = []

    def supervise(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work, name=name))
        return self.tasks[-1]

    def on_close(self, hook: Any) -> None:
        self.hooks.append(hook)


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def port(application: Application) -> AsyncIterator[int]:
    settings = Settings(
        secret="x" * 44,
        http_port=free_port(),
        http_connections=8,
        http_waiting_per_address=3,
        http_write_seconds=1,
        http_head_seconds=2,
    )
    bus = _Tasks()
    await serve_http(application, settings, bus)
    yield settings.http_port
    for hook in bus.hooks:
        await hook()


async def test_a_stream_ends_with_its_connection_though_a_request_waits_behind_it(
    application: Application, port: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET % b"stream")
    await reader.readuntil(b"part")
    writer.write(GET % b"behind")
    await reader.readuntil(b"part")
    assert application.streams == 1
    writer.transport.abort()
    await until(lambda: application.streams == 0)


@pytest.mark.parametrize("size", [72_000, 110_000, 150_000])
async def test_connections_whose_response_is_not_read_leave_their_places(port: int, size: int) -> None:
    """More than the kernel takes, less than what pauses writing; and more than that."""
    unread = [socket.socket() for _ in range(14)]
    for connection in unread:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        connection.send(GET % str(size).encode())
        await asyncio.sleep(0.05)

    async with AsyncExitStack() as streams:
        for _ in range(6):  # more than may wait, and are closed for others
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            streams.callback(writer.close)
            writer.write(GET % b"stream")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    for connection in unread:
        connection.close()


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 5", b"hello"),
        (b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        (b"Content-Length: 0", b""),
        (b"Accept: */*", b""),
    ],
)
async def test_the_body_of_a_request_that_offers_another_protocol_is_read(
    port: int, framing: bytes, body: bytes, pieces: int
) -> None:
    """As Java's HttpClient does with its first request."""
    head = b"POST /one HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    sent = head + b"HTTP2-Settings: AAMAAABk\r\n" + framing + b"\r\n\r\n" + body + GET % b"two"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = -(-len(sent) // pieces)
    for start in range(0, len(sent), size):
        writer.write(sent[start : start + size])
        await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        expected = b"one:hello" if body else b"one:"
        assert (await reader.readuntil(expected)).startswith(b"HTTP/1.1 200 ")
        assert (await reader.readuntil(b"two:")).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://other.example HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /1 HTTP/1.1\r\n\r\n",
        b"GET /1 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
    ],
    ids=["no path", "CONNECT", "no host", "two hosts", "another coding"],
)
async def test_a_request_that_others_may_read_otherwise_is_refused(
    port: int, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        assert b'"type":"bad_request_error"' in await reader.read()
    assert not [record for record in caplog.records if record.exc_info]
    writer.close()


async def test_a_request_of_an_old_version_needs_no_host(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /1 HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()

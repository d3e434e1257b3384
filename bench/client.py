"""A small HTTP/1.1 client for load: one keep-alive connection a worker, no parsing beyond status and length.

It shares two cores with the stack it measures. A general HTTP client spends about as much time on a request as the
gateway does and would be measured along with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit


@dataclass
class LoadResult:
    """Latencies and statuses of the requests of one run."""

    latencies_seconds: list[float] = field(default_factory=list)
    status_counts: dict[int, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0

    def count(self, status: int) -> int:
        """Return the number of responses with this status."""
        return self.status_counts.get(status, 0)


class Connection:
    """One keep-alive connection, opened with the first request."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._headers = f"Host: {parts.netloc}\r\nX-API-KEY: {api_key}\r\nContent-Type: application/json\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return status and body of the response, which must have a `Content-Length`."""
        reader, head = await self._send(method, path, body)
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return int(head[9:12]), await reader.readexactly(length)

    async def stream(self, path: str, body: bytes) -> tuple[int, float]:
        """POST a request whose response is chunked and read the response to its end.

        Return the status, and when (`perf_counter`) the first chunk had arrived.
        """
        reader, head = await self._send("POST", path, body)
        status, first_chunk_at = int(head[9:12]), 0.0
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            first_chunk_at = first_chunk_at or perf_counter()
        await reader.readline()
        return status, first_chunk_at

    async def _send(self, method: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1\r\n".encode() + self._headers + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        return reader, await reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        """Close the connection if it was opened."""
        if self._streams is not None:
            self._streams[1].close()


@dataclass(frozen=True)
class Target:
    """A server to send load to."""

    url: str
    """Without `/v4`."""
    api_key: str

    def connect(self) -> Connection:
        """Return a new connection."""
        return Connection(self.url, self.api_key)


SendRequest = Callable[[Connection], Awaitable[tuple[int, float]]]
"""Sends one request; returns its status and when (`perf_counter`) the response, or its first chunk, had arrived."""


async def run_load(target: Target, send: SendRequest, *, connections: int, requests: int) -> LoadResult:
    """Call `send` `requests` times in all over this many connections, on each as soon as its last call has returned."""
    result = LoadResult()
    remaining = requests

    async def worker() -> None:
        nonlocal remaining
        connection = target.connect()
        while remaining > 0:
            remaining -= 1
            started = perf_counter()
            status, arrived = await send(connection)
            result.latencies_seconds.append(arrived - started)
            result.status_counts[status] = result.status_counts.get(status, 0) + 1
        connection.close()

    started = perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    result.elapsed_seconds = perf_counter() - started
    return result


async def send_repeatedly(
    target: Target, method: str, path: str, body: bytes, *, connections: int, requests: int
) -> LoadResult:
    """Send the same request `requests` times over this many connections."""

    async def send(connection: Connection) -> tuple[int, float]:
        status, _ = await connection.request(method, path, body)
        return status, perf_counter()

    return await run_load(target, send, connections=connections, requests=requests)

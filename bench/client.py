"""A small HTTP/1.1 client for load: one keep-alive connection a worker, no parsing beyond status and length.

It shares two cores with the stack it measures. A general client spends about as much time on a request as the gateway
does and would be measured along with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit


@dataclass
class Tally:
    """What a run of requests gave."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0

    def count(self, status: int) -> int:
        """Answers with this status."""
        return self.statuses.get(status, 0)


class Connection:
    """One keep-alive connection."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nX-API-KEY: {key}\r\nContent-Type: application/json\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body."""
        reader, head = await self._send(method, path, body)
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return int(head[9:12]), await reader.readexactly(length)

    async def first_piece(self, path: str, body: bytes) -> tuple[int, float]:
        """POST something that is answered with a stream, and read it to its end: status, and the time
        (`perf_counter`) when its first piece was there."""
        reader, head = await self._send("POST", path, body)
        status, arrived = int(head[9:12]), 0.0
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            arrived = arrived or perf_counter()
        await reader.readline()
        return status, arrived

    async def _send(self, method: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1\r\n".encode() + self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        return reader, await reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()


@dataclass(frozen=True)
class Target:
    """A running stack."""

    url: str
    """Without `/v4`."""
    key: str

    def connect(self) -> Connection:
        """A new connection to it."""
        return Connection(self.url, self.key)


Ask = Callable[[Connection], Awaitable[tuple[int, float]]]
"""One request: its status, and when (`perf_counter`) what it waited for was there."""


async def hammer(target: Target, method: str, path: str, body: bytes, *, connections: int, requests: int) -> Tally:
    """Send `requests` over `connections`, each as soon as the last one on its connection was answered."""

    async def ask(connection: Connection) -> tuple[int, float]:
        status, _ = await connection.request(method, path, body)
        return status, perf_counter()

    return await repeat(target, ask, connections=connections, requests=requests)


async def repeat(target: Target, ask: Ask, *, connections: int, requests: int) -> Tally:
    """`ask` again and again over each connection, `requests` times in all."""
    tally = Tally()
    left = requests

    async def worker() -> None:
        nonlocal left
        connection = target.connect()
        while left > 0:
            left -= 1
            started = perf_counter()
            status, arrived = await ask(connection)
            tally.seconds.append(arrived - started)
            tally.statuses[status] = tally.statuses.get(status, 0) + 1
        connection.close()

    started = perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    tally.elapsed_seconds = perf_counter() - started
    return tally

"""A small HTTP/1.1 client for load: one keep-alive connection a worker, no parsing beyond status and length.

It shares two cores with the stack it measures. A general client spends about as much time on a request as the gateway
does and would be measured along with it.
"""

import asyncio
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
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(
            f"{method} {path} HTTP/1.1\r\n".encode() + self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return int(head[9:12]), await reader.readexactly(length)

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


async def hammer(target: Target, method: str, path: str, body: bytes, *, connections: int, requests: int) -> Tally:
    """Send `requests` over `connections`, each as soon as the last one on its connection was answered."""
    tally = Tally()
    left = requests

    async def worker() -> None:
        nonlocal left
        connection = target.connect()
        while left > 0:
            left -= 1
            started = perf_counter()
            status, _ = await connection.request(method, path, body)
            tally.seconds.append(perf_counter() - started)
            tally.statuses[status] = tally.statuses.get(status, 0) + 1
        connection.close()

    started = perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    tally.elapsed_seconds = perf_counter() - started
    return tally

"""Is it there yet? Asked often while something starts, never afterwards."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05
_ANSWER_SECONDS = 3.0
_FRESH_SECONDS = 0.1


async def until(probe: Callable[[], Awaitable[bool]]) -> None:
    """Return when `probe` says yes; a refused connection is a no."""
    while True:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if await probe():
                    return
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(POLL_SECONDS)


async def listens(host: str, port: int) -> bool:
    """Whether a connection is accepted."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def nats_greets(port: int) -> bool:
    """A NATS server speaks first: INFO and what it can do. JetStream has then been restored from disk."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        greeting = await reader.readline()
    finally:
        writer.close()
    return greeting.startswith(b"INFO ") and bool(json.loads(greeting[5:]).get("jetstream"))


async def http_get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status and body. HTTP/1.0, so that the server closes when it has said everything."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head.count(b" ") else 0, body


class GatewayProbe:
    """The gateway asks every service how it is; one such question serves all who wait."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._asking = asyncio.Lock()
        self._asked_at = 0.0
        self._services: dict[str, str] = {}

    async def gateway_answers(self) -> bool:
        """Whether the gateway speaks HTTP, whatever it has to say about the others."""
        status, _ = await http_get(*self._address, "/readyz")
        return status in {200, 503}

    async def service_is_ready(self, name: str) -> bool:
        """What `/readyz` says of one service."""
        async with self._asking:
            if time.monotonic() - self._asked_at > _FRESH_SECONDS:
                _, body = await http_get(*self._address, "/readyz")
                self._services = json.loads(body).get("services", {})
                self._asked_at = time.monotonic()
        return self._services.get(name) == "ready"

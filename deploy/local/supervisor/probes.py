"""Readiness probes, polled while a process starts and not afterwards."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05
_TIMEOUT_SECONDS = 3.0
"""For one call of a probe."""
_CACHE_SECONDS = 0.1
"""How long one answer of `/readyz` serves the probes of all services."""


async def wait_until(probe: Callable[[], Awaitable[bool]]) -> None:
    """Poll `probe` until it returns True; a refused connection, a timeout or an unreadable answer counts as False."""
    while True:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                if await probe():
                    return
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            pass
        await asyncio.sleep(POLL_SECONDS)


async def accepts_connections(host: str, port: int) -> bool:
    """Return True if a TCP connection is accepted; raises OSError otherwise."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def nats_is_ready(port: int) -> bool:
    """Return whether the server's INFO offers JetStream; its streams have been restored from disk by then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        info = await reader.readline()
    finally:
        writer.close()
    return info.startswith(b"INFO ") and bool(json.loads(info[5:]).get("jetstream"))


async def http_get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of a GET. HTTP/1.0, so that the server closes the connection after the body."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        response = await reader.read()
    finally:
        writer.close()
    head, _, body = response.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head.count(b" ") else 0, body


class GatewayProbe:
    """Reads the gateway's `/readyz`, which reports every service; one answer is shared by the probes of all."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._lock = asyncio.Lock()
        self._read_at = 0.0
        self._services: dict[str, str] = {}

    async def gateway_responds(self) -> bool:
        """Return whether the gateway answers HTTP, whatever it reports of the other services."""
        status, _ = await http_get(*self._address, "/readyz")
        return status in {200, 503}

    async def service_is_ready(self, name: str) -> bool:
        """Return whether `/readyz` reports the service as ready."""
        async with self._lock:
            if time.monotonic() - self._read_at > _CACHE_SECONDS:
                _, body = await http_get(*self._address, "/readyz")
                self._services = json.loads(body).get("services", {})
                self._read_at = time.monotonic()
        return self._services.get(name) == "ready"

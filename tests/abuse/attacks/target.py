"""What an attack is aimed at, and the raw connections that it is made of."""

import contextlib
import resource
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Target:
    """A running gateway and the attacker's key."""

    url: str
    """Of the v4 API."""
    api_key: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        return url.host, url.port or 80

    def client(self) -> httpx.Client:
        """Return an HTTP client with the key, which waits for a minute."""
        return httpx.Client(base_url=self.url, headers={"X-API-KEY": self.api_key} | JSON, timeout=60)

    @contextmanager
    def connections(self, count: int, *, source: str = "") -> Iterator[list[socket.socket]]:
        """Yield `count` connections, from the loopback address `source` if it is named; close them afterwards."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 500)), hard))
        with ExitStack() as stack:
            yield [
                stack.enter_context(socket.create_connection(self.address, 60, (source, 0) if source else None))
                for _ in range(count)
            ]

    def head(self, method: str, path: str, headers: Mapping[str, str | int]) -> bytes:
        """Return a request line and headers, with the key."""
        lines = [f"{method} /v4{path} HTTP/1.1", "Host: everloop", f"X-API-KEY: {self.api_key}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def receive(connection: socket.socket) -> bytes:
    """Return what arrives until the connection is closed, or reset."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            received += piece
    return received


def send(connection: socket.socket, data: bytes) -> bool:
    """Send `data`; return False if the peer does not take it."""
    try:
        connection.sendall(data)
    except ConnectionError:
        return False
    return True

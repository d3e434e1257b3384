"""Attacks by streams and slow calls: many connections of one organisation, none of which is read."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.abuse.attacks.target import Target

Json = dict[str, Any]

CHUNKS = 10_000
OUTPUT = "a word of " * 3000
"""Streamed in `CHUNKS` events, these 30 KB are 7 MB."""


def unread_stream(project: str) -> Json:
    """Return the body of a chat whose model streams at once as much as it can."""
    other = {"output": OUTPUT, "chunks": CHUNKS}
    config = {"provider": "mock", "model": "mock", "other": other}
    return {"project": project, "model_config": config, "messages": [{"role": "user", "content": "x"}], "stream": True}


def slow_call(project: str, seconds: float, *, stream: bool = False, text: str = "x") -> Json:
    """Return the body of a chat whose model answers after so many seconds."""
    config = {"provider": "mock", "model": "mock", "other": {"delay_seconds": seconds, "output": "done"}}
    messages = [{"role": "user", "content": text}]
    return {"project": project, "model_config": config, "messages": messages, "stream": stream}


@contextmanager
def unanswered(url: str, api_key: str, bodies: list[Json]) -> Iterator[list[socket.socket]]:
    """Send each body to `/chat` on a connection of its own, and read nothing; close the connections at the end.

    `url` is that of the v4 API.
    """
    parts = urlsplit(url)
    with ExitStack() as opened:
        connections = []
        for body in bodies:
            content = json.dumps(body).encode()
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            connection.settimeout(60)
            connection.connect((parts.hostname, parts.port))
            connection.sendall(
                f"POST {parts.path}/chat HTTP/1.1\r\nHost: {parts.netloc}\r\nX-API-KEY: {api_key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            connections.append(connection)
        yield connections


def status(connection: socket.socket, seconds: float) -> int:
    """Return the status of the response on a connection; 0 if the server closed it without one.

    Raises TimeoutError after so many seconds.
    """
    connection.settimeout(seconds)
    head = b""
    while len(head) < 12 and (piece := connection.recv(12 - len(head))):
        head += piece
    return int(head[9:12] or 0)


def leave_streams_unread(target: Target, streams: int = 150, seconds: float = 15.0) -> None:
    """Ask for streams of 7 MB each, and read none of them for a while."""
    with unanswered(target.url, target.api_key, [unread_stream("unread")] * streams):
        time.sleep(seconds)


def send_crowd(target: Target, calls: int = 1100, seconds: float = 15.0) -> None:
    """Send calls whose model takes a minute, half of them streamed; leave after a while."""
    bodies = [slow_call("crowd", 60, stream=bool(number % 2)) for number in range(calls)]
    with unanswered(target.url, target.api_key, bodies):
        time.sleep(seconds)

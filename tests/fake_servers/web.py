"""A web server that answers what it is told to and records what it was sent."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: Any = None
    """Its JSON."""


@dataclass(frozen=True)
class Answer:
    """What a path gives."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    piece_delay_seconds: float = 0.0
    """Before each byte."""


def as_json(value: Any, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def redirect(location: str, status: int = 302) -> Answer:
    """To somewhere else."""
    return Answer(status=status, headers={"Location": location})


@dataclass
class Web:
    """The server. `paths` says what each path gives; others are 404."""

    port: int = 0
    paths: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        """Forget requests and paths."""
        self.paths.clear()
        self.asked.clear()

    def answer(self, asked: Asked) -> Answer:
        """What this request gets."""
        self.asked.append(asked)
        found = self.paths.get(asked.path, Answer(b"nothing here", 404))
        return found(asked) if callable(found) else found


@contextmanager
def serving() -> Iterator[Web]:
    """On a free port, in the background."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            self._reply(json.loads(raw) if raw else None)

        def _reply(self, body: Any) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            answer = web.answer(Asked(self.command, parts.path, query, headers, body))
            time.sleep(answer.delay_seconds)
            self.send_response(answer.status)
            for name, value in (answer.headers | {"Content-Length": str(len(answer.content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if not answer.piece_delay_seconds:
                self.wfile.write(answer.content)
                return
            for number in range(len(answer.content)):
                time.sleep(answer.piece_delay_seconds)
                self.wfile.write(answer.content[number : number + 1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A caller that left is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()

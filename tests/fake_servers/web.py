"""A web server that records requests and sends the response set for their path."""

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
class WebRequest:
    """A request as it was received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: Any = None
    """Parsed from JSON or a form; None for a GET."""


@dataclass(frozen=True)
class WebResponse:
    """The response to requests of one path."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    piece_delay_seconds: float = 0.0
    """Before each byte of the content."""


def json_response(value: Any, status: int = 200) -> WebResponse:
    """Return a JSON response."""
    return WebResponse(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def redirect(location: str, status: int = 302) -> WebResponse:
    """Return a redirect response."""
    return WebResponse(status=status, headers={"Location": location})


@dataclass
class FakeWebServer:
    """The server's state: the `responses` by path (other paths are 404), and the `requests` it received."""

    port: int = 0
    responses: dict[str, WebResponse | Callable[[WebRequest], WebResponse]] = field(default_factory=dict)
    requests: list[WebRequest] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def clear(self) -> None:
        """Drop responses and recorded requests."""
        self.responses.clear()
        self.requests.clear()

    def respond(self, request: WebRequest) -> WebResponse:
        """Record a request and return its response."""
        self.requests.append(request)
        found = self.responses.get(request.path, WebResponse(b"nothing here", 404))
        return found(request) if callable(found) else found


_POLL_SECONDS = 0.02
"""How often the server looks whether it is to stop; each test that has one waits that long at its end."""


@contextmanager
def serve() -> Iterator[FakeWebServer]:
    """Run a server on a free port in a thread; yield its state."""
    web = FakeWebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            is_form = self.headers.get_content_type() == "application/x-www-form-urlencoded"
            self._reply(dict(parse_qsl(raw.decode())) if is_form else json.loads(raw) if raw else None)

        def _reply(self, body: Any) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            response = web.respond(WebRequest(self.command, parts.path, query, headers, body))
            time.sleep(response.delay_seconds)
            self.send_response(response.status)
            for name, value in (response.headers | {"Content-Length": str(len(response.content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if not response.piece_delay_seconds:
                self.wfile.write(response.content)
                return
            for number in range(len(response.content)):
                time.sleep(response.piece_delay_seconds)
                self.wfile.write(response.content[number : number + 1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Print nothing: tests disconnect on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()

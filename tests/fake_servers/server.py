"""An HTTP server in place of a model provider: records requests, sends queued replies, and fails in the ways they say.

What differs between providers is a `Dialect`; tests/contract checks each with the client library of its vendor.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

Json = dict[str, Any]
GARBAGE = b"<html>This is not what you asked for.</html>"


@dataclass
class Reply:
    """The reply to one request, in terms common to all dialects."""

    content: str | None = "Fine, thank you."
    tool_calls: list[Json] | None = None
    """In OpenAI's form: `{"id", "type": "function", "function": {"name", "arguments"}}`."""
    finish_reason: str | None = None
    """In terms of v4: stop, length, tool_call; None: tool_call if there are tool calls, otherwise stop."""
    status: int = 200
    error: Json | None = None
    """Fields of the provider's error object, added to the default ones."""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    """Before the response begins."""
    chunk_delay_seconds: float = 0.0
    break_after_chunks: int | None = None
    """The connection is closed after so many events of a stream, or in the middle of a whole response."""
    stream_error: str | None = None
    """The stream ends with an error event of this message, in dialects that have one."""
    garbage: bool = False
    """The body is HTML."""
    empty: bool = False
    """The body is empty."""
    always_sends_usage: bool = False
    """A stream has its usage even if the request did not ask for it, as with some providers."""
    prompt_tokens: int = 12
    generation_tokens: int = 5


@dataclass
class RecordedRequest:
    """A request as it was received."""

    method: str
    path: str
    key: str | None
    body: Json
    headers: dict[str, str] = field(default_factory=dict)


class Dialect(Protocol):
    """Requests and responses of one provider's API."""

    prefix: str
    """Path of the base URL, e.g. `/v1`."""
    stream_type: str
    """Content type of a streamed response."""

    def api_key(self, headers: dict[str, str]) -> str | None:
        """Return the API key of a request; names of headers are in lower case."""

    def is_streamed(self, request: RecordedRequest) -> bool:
        """Return whether the request asks for a stream."""

    def response_body(self, request: RecordedRequest, reply: Reply) -> Json:
        """Return the body of a response that is not streamed."""

    def stream_events(self, request: RecordedRequest, reply: Reply) -> Iterable[bytes]:
        """Yield the events of a streamed response, framed, with the end of the stream."""

    def error_body(self, reply: Reply) -> Json:
        """Return the body of an error response."""


class PollingDialect(Protocol):
    """What a dialect has in addition if the result of a request is fetched by later ones."""

    def started_response(self, request: RecordedRequest, reply: Reply) -> Json | None:
        """Return the response to a request that only starts the work, or None."""

    def polled_reply(self, request: RecordedRequest) -> Reply | None:
        """Return the reply whose result this request fetches, or None if it is no such request."""


@dataclass
class FakeServer:
    """The server's state; `replies` are sent in order, the default one when they are used up."""

    url: str = ""
    requests: list[RecordedRequest] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)
    connections: int = 0
    """Connections accepted so far."""
    open_connections: int = 0
    """Connections open at this moment."""
    streaming: int = 0
    """Responses being written at this moment."""

    def reply(self, **fields: Any) -> None:
        """Queue a reply."""
        self.replies.append(Reply(**fields))

    @property
    def last(self) -> RecordedRequest:
        """The latest request."""
        return self.requests[-1]

    def clear(self) -> None:
        """Drop recorded requests and queued replies."""
        self.requests.clear()
        self.replies.clear()


def sse(payload: Json, event: str | None = None) -> bytes:
    """Return one server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(payload)}\n\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.dialect = dialect
        self.lock = threading.Lock()
        self.fake_server = FakeServer(url=f"http://127.0.0.1:{self.server_port}{dialect.prefix}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: tests disconnect on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.fake_server.open_connections += 1
            self.server.fake_server.connections += 1

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            with self.server.lock:
                self.server.fake_server.open_connections -= 1

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(json.loads(raw) if raw else {})

    def _answer(self, body: Json) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = RecordedRequest(self.command, self.path, self.server.dialect.api_key(headers), body, headers)
        self.server.fake_server.requests.append(request)
        polled = self._polling.polled_reply(request) if self._polling else None
        reply = polled or (self.server.fake_server.replies.popleft() if self.server.fake_server.replies else Reply())
        time.sleep(reply.delay_seconds)
        with self.server.lock:
            self.server.fake_server.streaming += 1
        try:
            self._write(request, reply)
        finally:
            with self.server.lock:
                self.server.fake_server.streaming -= 1

    @property
    def _polling(self) -> PollingDialect | None:
        dialect: Any = self.server.dialect
        return dialect if hasattr(dialect, "started_response") else None

    def _write(self, request: RecordedRequest, reply: Reply) -> None:
        started = self._polling.started_response(request, reply) if self._polling and reply.status == 200 else None
        if reply.status != 200:
            self._send(reply, json.dumps(self.server.dialect.error_body(reply)).encode())
        elif started is not None:
            self._send(Reply(), json.dumps(started).encode())
        elif reply.empty:
            self._send(reply, b"")
        elif self.server.dialect.is_streamed(request):
            events = (
                [sse({}).replace(b"{}", GARBAGE)]
                if reply.garbage
                else self.server.dialect.stream_events(request, reply)
            )
            self._stream(reply, events)
        else:
            whole = json.dumps(self.server.dialect.response_body(request, reply)).encode()
            self._send(reply, GARBAGE if reply.garbage else whole)

    def _send(self, reply: Reply, raw: bytes) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        broken = reply.break_after_chunks is not None
        self.send_header("Content-Length", str(len(raw)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2] if broken else raw)
        self.close_connection = self.close_connection or broken

    def _stream(self, reply: Reply, events: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", self.server.dialect.stream_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, event in enumerate(events):
            if reply.break_after_chunks is not None and number >= reply.break_after_chunks:
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(reply.chunk_delay_seconds)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


def start(dialect: Dialect) -> FakeServer:
    """Start a server for a dialect on a free port, in a thread."""
    server = _Server(dialect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.fake_server

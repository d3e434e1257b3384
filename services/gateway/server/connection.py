"""One HTTP connection: uvicorn's protocol on httptools, with bounds on what arrives before a request is whole.

httptools collects a header without a limit, and copies what it has of it for every piece that arrives; so the bytes are
counted here as they arrive. Nothing is parsed here.
"""

import asyncio
from enum import Enum, auto
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.gateway.server.connections import PROGRESS_BYTES, Connections
from services.gateway.server.framing import check_framing, framing_headers
from services.gateway.server.refusals import encode_refusal
from shared.errors import BadRequest, HeadersTooLarge, Problem, RequestTimeout, Unavailable, UriTooLong

MAX_HEADERS = 100
"""In a request, and of its trailers."""
MAX_PIPELINED = 16
"""Requests that are sent before the response to the first one. What follows is not read; the connection is closed
after the last response, and the client sends the rest again (RFC 9112 §9.3.2)."""
_LINGER_SECONDS = 2.0
"""How long what a refused caller still sends is read and dropped: closing at once would take the answer from it."""


class _State(Enum):
    FRESH = auto()
    """Nothing has arrived yet."""
    HEAD = auto()
    """Part of a request line or of headers has arrived."""
    BODY = auto()
    """The head is complete, the body is not."""
    WHOLE = auto()
    """The newest request is complete, and perhaps answered."""
    CLOSING = auto()
    """Refused: the answer is written, what arrives is dropped."""


class BoundedConnection(HttpToolsProtocol):
    """A connection that is refused or closed at the bounds of `connections.limits`."""

    def __init__(self, *arguments: Any, connections: Connections, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **options)
        self.address = ""
        self._connections = connections
        self._limits = connections.limits
        self._state = _State.FRESH
        self._since = 0.0
        """When the state began; of a body, when it last moved by `PROGRESS_BYTES`."""
        self._framing = b""
        """The headers that frame the body of a request with `Upgrade`, until it is parsed."""
        self._resuming = False
        self._completed = False
        """Whether a request was completed by the data that is being read."""
        self._head_bytes = 0
        """Of a head that is not complete; during a body, of what came after the last of its bytes."""
        self._body_bytes = 0
        self._body_mark = 0
        """`_body_bytes` at `_since`."""
        self._running: RequestResponseCycle | None = None
        """The request that was started last; `cycle` is the newest one, which may wait behind it."""
        self._unread = (0.0, 0)
        """Since when the peer reads too slowly, and how many bytes were unread then."""
        self._closing_since: float | None = None
        """When it was first seen to be closed with something unread."""

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection; refuse it if there is no place."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._since = self.loop.time()
        if not self._connections.add(self):
            self._refuse(Unavailable("There are as many requests in hand as fit; try again."), linger=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; end the request that runs, which uvicorn does not if others wait behind it."""
        self._connections.remove(self)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse what is over a limit or is no HTTP."""
        if self._state is _State.CLOSING:
            return
        self._unset_keepalive_if_required()
        if self._state is _State.FRESH or self._state is _State.WHOLE:
            self._begin_head()
        state, body_bytes = self._state, self._body_bytes
        self._completed = False
        try:
            self.parser.feed_data(data)
            if self._state is _State.HEAD:
                if not self._completed:  # else an unknown part of the data belongs to the request before
                    self._head_bytes += len(data)
                self._check_head(self._head_bytes)
            elif state is self._state is _State.BODY:
                self._check_body(body_bytes, len(data))
        except Problem as problem:
            self._refuse(problem)
        except httptools.HttpParserUpgrade as stopped:
            self._parse_on(data[stopped.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Problem) else BadRequest("This is not a valid HTTP/1.1 request."))

    def pause_writing(self) -> None:
        """Note when the peer stopped to read as fast as is written."""
        super().pause_writing()
        self._unread = (self.loop.time(), self.transport.get_write_buffer_size())
        self._connections.pause_writing(self)

    def resume_writing(self) -> None:
        """Go on; the peer has read."""
        super().resume_writing()
        self._connections.resume_writing(self)

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._resuming:
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BadRequest(f"At most {MAX_PIPELINED} requests may be sent before the first is answered.")
        if self._state is not _State.HEAD:
            self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the sizes, then start the request."""
        if self._resuming:
            return
        self._check_head(len(self.url) + sum(len(name) + len(value) for name, value in self.headers))
        check_framing(self.headers, self.parser.get_http_version())
        super().on_headers_complete()  # it fails for a target without a path; the state is still HEAD then
        self._state, self._since = _State.BODY, self.loop.time()
        self._head_bytes = self._body_bytes = self._body_mark = 0
        if self.parser.should_upgrade():
            self._framing = framing_headers(self.headers)
        self.headers = []  # trailers would become headers of the request, which was authorized without them

    def on_body(self, body: bytes) -> None:
        """Note how far the body is."""
        self._body_bytes += len(body)
        if self._body_bytes - self._body_mark >= PROGRESS_BYTES:
            self._since, self._body_mark = self.loop.time(), self._body_bytes
            self._connections.wait(self)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; unless it is answered already, the connection waits no more."""
        if self._framing:
            return  # its body follows, see `_parse_on`
        self._state, self._completed = _State.WHOLE, True
        if self.cycle.response_complete:
            self._since = self.loop.time()
        else:
            self._connections.stop_waiting(self)
        super().on_message_complete()

    # --- uvicorn's callbacks

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request."""
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or wait for one."""
        super().on_response_complete()
        if self.cycle.response_complete:  # it is the newest; else the next one runs
            if self._state is not _State.BODY:
                self._since = self.loop.time()
            self._connections.wait(self)

    # --- what `Connections` calls

    def evict(self) -> None:
        """Close, because a newer connection needs the place; half a request is answered.

        What the peer did not read of earlier responses is dropped: it would hold the place.
        """
        self._connections.log.add("connection that waited longest, closed for another one")
        if self._state is _State.HEAD or self._state is _State.BODY:
            self._refuse(Unavailable("There are too many connections with half a request; try again."), linger=False)
        else:
            self.transport.close()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        self._connections.stop_waiting(self)

    def close_if_overdue(self, now: float) -> None:
        """Close if the time for the head, or for the next part of the body, is over."""
        limits, elapsed = self._limits, now - self._since
        if self.transport.is_closing():
            return
        if self._state is _State.BODY and self.flow.read_paused:
            self._since = now  # it is not read, so it cannot go on
        elif self._state is _State.CLOSING:
            if elapsed >= _LINGER_SECONDS:
                self.transport.abort()
        elif self._state is _State.FRESH and elapsed >= limits.head_seconds:
            self.transport.close()
        elif self._state is _State.HEAD and elapsed >= limits.head_seconds:
            self._refuse(RequestTimeout(f"The headers did not arrive within {limits.head_seconds:g} seconds."))
        elif self._state is _State.BODY and elapsed >= limits.body_seconds:
            self._refuse(
                RequestTimeout(
                    f"Of the body less than {PROGRESS_BYTES // 1024} KiB arrived in {limits.body_seconds:g} seconds."
                )
            )

    def abort_if_not_closed(self, now: float) -> None:
        """Abort if it is to be closed, and the peer does not take what is written in the time it has."""
        if not self.transport.is_closing():
            return
        self._closing_since = self._closing_since or now
        if now - self._closing_since >= self._limits.write_seconds:
            self.transport.abort()

    def abort_unread(self) -> None:
        """Abort, because a newer connection needs the place, and the peer reads slowly."""
        self._connections.log.add("response that was read slowly, ended for another connection")
        self.transport.abort()
        self._connections.resume_writing(self)

    def abort_if_unread(self, now: float) -> None:
        """Abort if the peer took less than `PROGRESS_BYTES` of what is written in the time it has."""
        since, unread = self._unread
        if now - since < self._limits.write_seconds:
            return
        left = self.transport.get_write_buffer_size()
        if left > unread - PROGRESS_BYTES:
            self._connections.log.add("response that was not read")
            self.transport.abort()
        self._unread = (now, left)

    # ---

    def _parse_on(self, data: bytes) -> None:
        """Parse `data`, which follows a head with `Upgrade`, or with the method CONNECT, as HTTP/1.1.

        No other protocol is offered, so `Upgrade` is ignored (RFC 9110 §7.8). httptools passes over the body of such a
        request and stops. Java's HttpClient sends one first, whatever the method (`Upgrade: h2c`).
        """
        self.parser = httptools.HttpRequestParser(self)
        framing, self._framing = self._framing, b""
        if framing:
            self._resuming = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % framing)
            self._resuming, self.headers = False, []
        if data:
            self.data_received(data)

    def _begin_head(self) -> None:
        self._state, self._since, self._head_bytes = _State.HEAD, self.loop.time(), 0
        self.url, self.headers = b"", []
        if not self._owes_response():
            self._connections.wait(self)

    def _owes_response(self) -> bool:
        # uvicorn has None before the first request and does not say so
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]

    def _check_head(self, size: int) -> None:
        """Raise UriTooLong or HeadersTooLarge if the path, or a head of `size` bytes, is over its limit."""
        limit = self._limits.head
        if len(self.url) > limit // 2:
            raise UriTooLong(f"Path and query take more than {limit // 2:,} bytes.")
        if len(self.headers) > MAX_HEADERS:
            raise HeadersTooLarge(f"There are more than {MAX_HEADERS} headers.")
        if size > limit:
            raise HeadersTooLarge(f"The headers take more than {limit:,} bytes.")

    def _check_body(self, body_bytes: int, read: int) -> None:
        """Check a read of `read` bytes, all within a body, which had `body_bytes` before. Raises HeadersTooLarge."""
        if self._body_bytes != body_bytes:
            self._head_bytes = 0
        else:  # lengths of chunks without a byte of them, or trailers
            self._head_bytes += read
            self._check_head(self._head_bytes)
        if self._body_bytes > self._limits.body and self.cycle.response_complete:
            self.transport.close()  # answered before it was read, which is no reason to send for ever

    def _refuse(self, problem: Problem, *, linger: bool = True) -> None:
        """Answer with `problem` and close the connection; without an answer if others are owed, after these."""
        self._connections.log.add(problem.code)
        cycle, state = self.cycle, self._state
        self._state, self._since = _State.CLOSING, self.loop.time()
        self._unset_keepalive_if_required()
        if state is _State.BODY:
            answered = cycle.response_started or self.pipeline
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
            if answered:
                self.transport.close()
                return
        elif self._owes_response():
            cycle.keep_alive = False
            return
        self.transport.write(encode_refusal(problem))
        if linger:
            self.flow.resume_reading()
            self.transport.write_eof()
            self._connections.wait(self)
        else:
            self.transport.close()

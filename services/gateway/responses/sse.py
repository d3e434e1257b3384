"""Server-sent events in the one form that every v4 client can parse (behaviour.md §4.6)."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Send

from shared.errors import Problem

logger = logging.getLogger(__name__)

Guard = Callable[[], AbstractAsyncContextManager[None]]
"""Returns a context that may cancel what runs in it, and raise a Problem then."""

MEDIA_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_LINE_SEPARATORS = {character.encode(): f"\\u{ord(character):04x}".encode() for character in "\u0085\u2028\u2029"}
"""Where Python's `str.splitlines` ends a line and the format does not, with their escapes in JSON; all others of that
kind are control characters, which JSON escapes anyway."""


def encode_event(payload: BaseModel) -> bytes:
    """Return one `data: <json>` event. Python clients look for the space after the colon."""
    body = payload.model_dump_json().encode()
    # Clients up to 0.7.0 split a line at every "data: "; inside a JSON string its space may be written as an escape.
    body = body.replace(b"data: ", b"data:\\u0020")
    if not body.isascii():
        for character, escape in _LINE_SEPARATORS.items():
            body = body.replace(character, escape)
    return b"data: " + body + b"\n\n"


class _EventStreamResponse(StreamingResponse):
    """A streaming response that is made and sent in a guard's context.

    A Problem ends it without the end of its body: uvicorn then closes the connection.
    """

    def __init__(self, events: AsyncIterator[bytes], guard: Guard) -> None:
        super().__init__(events, media_type=MEDIA_TYPE, headers=_HEADERS)
        self._guard = guard

    async def stream_response(self, send: Send) -> None:
        """Send the response; the guard also ends it while it waits for a client that does not read.

        A Problem is one line in the log, as it is the provider's or another service's.
        """
        try:
            async with self._guard(), aclosing(self.body_iterator):  # type: ignore[type-var]  # an async generator
                await super().stream_response(send)
        except Problem as problem:
            logger.warning("a stream broke off: %s: %s", problem.origin, problem.code, extra={"status": problem.status})


async def event_stream_response(events: AsyncIterator[BaseModel], guard: Guard) -> Response:
    """Return a streaming response of `events`, an async generator, after waiting for the first one.

    Raises what fails before the first event, so that it is answered as an ordinary error; a later failure breaks off
    the connection. All of it happens in the context of `guard`.
    """
    try:
        async with guard():
            first = await anext(events)
    except StopAsyncIteration:
        return StreamingResponse(iter(()), media_type=MEDIA_TYPE, headers=_HEADERS)

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(events) as rest:  # type: ignore[type-var]  # an async generator at run time
            yield encode_event(first)
            async for payload in rest:
                yield encode_event(payload)

    return _EventStreamResponse(body(), guard)

"""Server-sent events in the one form that every v4 client can parse (behaviour.md §4.6)."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def encode_event(payload: BaseModel) -> bytes:
    """Return one `data: <json>` event. Python clients look for the space after the colon."""
    body = payload.model_dump_json().encode()
    # Clients up to 0.7.0 split a line at every "data: "; inside a JSON string its space may be written as an escape.
    return b"data: " + body.replace(b"data: ", b"data:\\u0020") + b"\n\n"


async def event_stream_response(events: AsyncIterator[BaseModel]) -> Response:
    """Return a streaming response of `events`, an async generator, after waiting for the first one.

    Raises what fails before the first event, so that it is answered as an ordinary error; a later failure breaks off
    the connection.
    """
    try:
        first = await anext(events)
    except StopAsyncIteration:
        return StreamingResponse(iter(()), media_type="text/event-stream", headers=_HEADERS)

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(events) as rest:  # type: ignore[type-var]  # an async generator at run time
            yield encode_event(first)
            async for payload in rest:
                yield encode_event(payload)

    return StreamingResponse(body(), media_type="text/event-stream", headers=_HEADERS)

"""Chunks from the bus → server-sent events, in the one form every v4 client reads (behaviour.md §4.6)."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event(payload: BaseModel) -> bytes:
    """One `data: <json>` event. The space after the colon is what Python clients look for."""
    body = payload.model_dump_json().encode()
    # Clients up to 0.7.0 split a line at every "data: "; inside a JSON string its space may be written as an escape.
    return b"data: " + body.replace(b"data: ", b"data:\\u0020") + b"\n\n"


async def respond(events: AsyncIterator[BaseModel]) -> Response:
    """Answer with the events. What fails before the first one is an ordinary error; later the connection breaks off."""
    try:
        first = await anext(events)
    except StopAsyncIteration:
        return StreamingResponse(iter(()), media_type="text/event-stream", headers=_HEADERS)

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(events) as rest:  # type: ignore[type-var]  # an async generator at run time
            yield event(first)
            async for item in rest:
                yield event(item)

    return StreamingResponse(body(), media_type="text/event-stream", headers=_HEADERS)

"""Reads the bodies of successful responses: an answer in one piece, or its events as they come."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress

import httpx

from services.generation.models.request import ModelResponse, ResponseDelta, StreamAccumulator
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.transport.reading import (
    PARSE_ERRORS,
    EventReader,
    as_delta,
    listed_events,
    read_response,
    unreadable,
)
from services.generation.providers.transport.response import MAX_INLINE_PARSE_BYTES, ProviderResponse
from services.generation.providers.transport.stream_framing import DONE, find_json_lines, is_json_lines, sse_data
from shared.errors import Problem

_JSON_BEGINNINGS = (b"{", b"[")
"""Of a body that is JSON; neither a stream of server-sent events nor one of AWS's begins so."""
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a stream of server-sent events begins, and no JSON."""
_HEAD_BYTES = 64
"""Of a body, in which its first field or bracket must be."""
_DRAIN_SECONDS = 0.2
"""For what follows the last event of a stream: nothing but the end of the body, mostly in the same packet."""


async def read_whole(prepared: PreparedRequest, response: ProviderResponse) -> ModelResponse:
    """Return the answer in a response that is not streamed; of events, which some servers send whatever was requested,
    what they make together. Raises the problems of `providers/errors.py`."""
    content = await response.read()
    # The events of several samples cannot be told apart.
    if prepared.request.samples == 1 and _is_stream(content):
        return await _join_events(prepared, response)
    return await _read_response(prepared, content)


def _is_stream(content: bytes) -> bool:
    head = content[:_HEAD_BYTES].removeprefix(BOM_UTF8).lstrip()
    return head.startswith(_FIELDS) or (head.startswith(b"{") and is_json_lines(content))


async def _join_events(prepared: PreparedRequest, response: ProviderResponse) -> ModelResponse:
    reader, accumulator = EventReader(prepared), StreamAccumulator()
    async with aclosing(read_stream(prepared, response, reader)) as deltas:
        async for delta in deltas:
            accumulator.add(delta)
    reader.raise_if_unfinished()
    raw = prepared.dialect.write_response(prepared.request, accumulator)
    return ModelResponse([accumulator.choice()], raw, accumulator.usage)


async def _read_response(prepared: PreparedRequest, content: bytes) -> ModelResponse:
    if len(content) < MAX_INLINE_PARSE_BYTES:
        return read_response(prepared, content)
    return await asyncio.to_thread(read_response, prepared, content)


async def read_stream(
    prepared: PreparedRequest, response: ProviderResponse, reader: EventReader
) -> AsyncGenerator[ResponseDelta, None]:
    """Yield the events; of a body that is one JSON value, its answer as one event, or the events in it."""
    head, received = await _peek(response.iter_bytes())
    framing = prepared.framing
    if head.startswith(_JSON_BEGINNINGS):
        framing = sse_data
        is_lines, received = await find_json_lines(received)
        if not is_lines:
            for delta in await _read_json(prepared, received, reader):
                yield delta
            return
    is_empty = True
    events = _frame(prepared, framing(received), reader, head)
    async for data in events:
        is_empty = False
        if data == DONE:
            if not reader.finished:
                reader.finished = True
                yield ResponseDelta(finish_reason="stop")
            break
        yield reader.read(data)
        response.mark_consumed()
    if (rest := reader.end()) is not None:
        yield rest
    if is_empty and head:
        raise errors.invalid_response(prepared.title, "sent a stream that cannot be read.", unreadable(prepared, head))
    await _drain(events)


async def _read_json(
    prepared: PreparedRequest, received: AsyncIterator[bytes], reader: EventReader
) -> Iterator[ResponseDelta]:
    """Return the events in a body that is one JSON value, each read when it is taken."""
    content = b"".join([piece async for piece in received])
    if content[:1] == b"[" and (listed := await asyncio.to_thread(listed_events, content)):
        return (reader.read(data) for data in listed)
    return iter([reader.take(as_delta(await _read_response(prepared, content)))])


async def _peek(pieces: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Return the beginning of a body, and all of it, without a byte order mark and white space before it; the beginning
    is empty if there is nothing else."""
    received = bytearray()
    async for piece in pieces:
        received += piece
        if len(received) > len(BOM_UTF8) and not piece.isspace():
            break
    head = bytes(received.removeprefix(BOM_UTF8).lstrip())

    async def whole() -> AsyncIterator[bytes]:
        yield head
        async for piece in pieces:
            yield piece

    return head, whole()


async def _frame(
    prepared: PreparedRequest, framed: AsyncIterator[bytes], reader: EventReader, head: bytes
) -> AsyncIterator[bytes]:
    """Yield the events of a streamed body. Raises UpstreamFailed, with its `head`, if it has another framing; what is
    wrong with the body after the end of the answer is not raised."""
    try:
        async for event in framed:
            yield event
    except PARSE_ERRORS as error:
        if not reader.finished:
            raise errors.invalid_response(
                prepared.title, "sent a stream that cannot be read.", unreadable(prepared, head)
            ) from error
    except (httpx.HTTPError, Problem):
        if not reader.finished:
            raise


async def _drain(events: AsyncIterator[bytes]) -> None:
    """Read a response to its end, so that its connection can serve the next call."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in events:
                pass

"""Splits streamed bodies into server-sent events. A provider with another framing brings its own function.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, 2026-11. Two differences: an
event that the end of the body cuts off is not dropped but marked, because some servers end without the empty line; and
a line that begins with `{`, which no field does, is an event: some send JSON lines, or an error without `data:`.
docs/decisions/0020-event-streams.md says why no library does this.
"""

import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from typing import NamedTuple

from services.generation.providers.transport.bounded_json import read_json

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event, or one line."""
DONE = b"[DONE]"
"""Data of the last event in OpenAI's language."""
_REPEATED_FIELD = re.compile(rb"^data: ?", re.MULTILINE)
"""JSON texts have no line that begins so."""


class ServerSentEvent(NamedTuple):
    """One event, undecoded."""

    name: bytes
    """Its type; empty if the stream gives none."""
    data: bytes
    """Its `data` lines, joined by line feeds; or a line of JSON."""
    complete: bool
    """False: no empty line ended it, so it may have been cut off."""


async def server_sent_events(received: AsyncIterator[bytes]) -> AsyncIterator[ServerSentEvent]:
    """Yield the events that have data. Raises ValueError if one is too long."""
    name, data, size = b"", list[bytes](), 0
    async for line in lines(received):
        if not line:
            if data:
                yield ServerSentEvent(name, b"\n".join(data), True)
            name, data, size = b"", [], 0
            continue
        if line[:1] == b"{":
            if data:
                yield ServerSentEvent(name, b"\n".join(data), True)
            name, data, size = b"", [], 0
            yield ServerSentEvent(b"", line, False)
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value[1:] if value[:1] == b" " else value)
            size += len(value)
            if size > MAX_EVENT_BYTES:
                raise ValueError(f"an event of more than {MAX_EVENT_BYTES:,} bytes")
        elif field == b"event":
            name = value[1:] if value[:1] == b" " else value
    if data:
        yield ServerSentEvent(name, b"\n".join(data), False)


async def sse_data(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of events whose data is JSON (or `[DONE]`), but for empty data. Raises ValueError if an event is
    too long.

    What the end of the body cut off is yielded only if it is a whole JSON text. Where lines of one event are no JSON
    text together but are so each, an event each: a server forgot the empty lines. A second `data:`, by a proxy that
    framed what was framed, is left out.
    """
    async for event in server_sent_events(received):
        data = event.data.strip()
        if data.startswith(b"data:"):
            data = _REPEATED_FIELD.sub(b"", data).strip()
        if not data or (not event.complete and not _is_whole(data)):
            continue
        if b"\n" in data and not _is_whole(data) and all(map(_is_whole, texts := data.split(b"\n"))):
            for text in texts:
                yield text
        else:
            yield data


def _is_whole(data: bytes) -> bool:
    try:
        read_json(data)
    except ValueError:
        return data == DONE
    return True


def is_json_lines(body: bytes) -> bool:
    """Whether the first line is a JSON text and something follows."""
    end = body.find(b"\n")
    return 0 < end <= MAX_EVENT_BYTES and _is_whole(body[:end]) and bool(body[end:].strip())


async def find_json_lines(received: AsyncIterator[bytes]) -> tuple[bool, AsyncIterator[bytes]]:
    """Return whether a body is JSON lines, and the body: it is read until its second line begins."""
    head, has_line = bytearray(), False
    async for piece in received:
        head += piece
        rest = piece if has_line else piece.partition(b"\n")[2]
        has_line = has_line or b"\n" in piece
        if has_line and rest.strip():
            break

    async def whole() -> AsyncIterator[bytes]:
        yield bytes(head)
        async for piece in received:
            yield piece

    return is_json_lines(bytes(head)), whole()


async def lines(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines without their end (CR, LF or both) and without a byte order mark, however the body is cut into
    pieces. Raises ValueError if one is too long."""
    pending, size = list[bytes](), 0
    is_first, after_cr = True, False
    async for received_piece in received:
        piece = received_piece[1:] if after_cr and received_piece[:1] == b"\n" else received_piece
        if received_piece:
            after_cr = received_piece[-1:] == b"\r"
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, *others = piece.split(b"\n")
        pending.append(head)
        size += len(head)
        if size > MAX_EVENT_BYTES:
            raise ValueError(f"a line of more than {MAX_EVENT_BYTES:,} bytes")
        if others:
            line = b"".join(pending)
            yield line.removeprefix(BOM_UTF8) if is_first else line
            is_first = False
            *complete, last = others
            for line in complete:
                yield line
            pending, size = [last], len(last)
    if last := b"".join(pending):
        yield last.removeprefix(BOM_UTF8) if is_first else last

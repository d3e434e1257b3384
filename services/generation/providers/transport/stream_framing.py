"""Splits streamed bodies into lines and server-sent events. A provider with another framing brings its own function."""

from collections.abc import AsyncIterator

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event, or one line."""


async def sse_data(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events whose data is one line each. Raises ValueError if one is too long."""
    async for line in lines(received):
        if line.startswith(b"data:") and (data := line[5:].strip()):
            yield data


async def lines(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines without their end, however the body is cut into pieces. Raises ValueError if one is too long."""
    pending: list[bytes] = []
    size = 0
    async for piece in received:
        first, *others = piece.split(b"\n")
        pending.append(first)
        size += len(first)
        if size > MAX_EVENT_BYTES:
            raise ValueError(f"a line of more than {MAX_EVENT_BYTES:,} bytes")
        if others:
            yield b"".join(pending)
            *complete, last = others
            for line in complete:
                yield line
            pending, size = [last], len(last)
    if last := b"".join(pending):
        yield last

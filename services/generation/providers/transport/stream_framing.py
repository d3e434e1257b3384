"""How streamed bodies are cut into events. A provider with another framing brings its own function."""

from collections.abc import AsyncIterator

LONGEST_EVENT = 4 * 1024 * 1024
"""Bytes."""


async def data(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, for providers that write each in one line. ValueError: one has no end."""
    async for line in lines(received):
        if line.startswith(b"data:") and (said := line[5:].strip()):
            yield said


async def lines(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each line without its end. ValueError: one has none. A line may come in any number of pieces."""
    begun: list[bytes] = []
    size = 0
    async for piece in received:
        first, *others = piece.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > LONGEST_EVENT:
            raise ValueError("a line without end")
        if others:
            yield b"".join(begun)
            *whole, last = others
            for line in whole:
                yield line
            begun, size = [last], len(last)
    if last := b"".join(begun):
        yield last

"""How streamed bodies are cut into events. A provider with another framing brings its own function."""

from collections.abc import AsyncIterator

_LONGEST_EVENT = 4 * 1024 * 1024


async def data(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, for providers that write each in one line. ValueError: one has no end."""
    rest = b""
    async for piece in received:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _LONGEST_EVENT:
            raise ValueError("a line without end")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if rest.startswith(b"data:"):
        yield rest[5:].strip()

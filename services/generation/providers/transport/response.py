"""What a provider sends, read with an end to it: a caller may have named the server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.transport.bounded_json import read_json

MOST_BYTES = 32 * 1024 * 1024
"""Of one answer, whole or streamed: several generated images in base64."""
_BESIDE_BYTES = 1024 * 1024
"""What is longer is parsed in a thread, so that other calls are not held up."""
_PLAIN = frozenset({"", "identity"})


class ProviderResponse:
    """A response whose body is read once, and not beyond `MOST_BYTES`."""

    def __init__(self, prepared: PreparedRequest, response: httpx.Response) -> None:
        self._call = prepared
        self._response = response
        self._content: bytes | None = None

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status_code

    @property
    def is_success(self) -> bool:
        """2xx."""
        return self._response.is_success

    def header(self, name: str) -> str | None:
        """Its value, if it is there."""
        value: str | None = self._response.headers.get(name)
        return value

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. We ask for no compression: a few bytes could become any number."""
        if (self.header("content-encoding") or "").strip().lower() not in _PLAIN:
            raise errors.broken(self._call.title, "sent a compressed answer, which nobody asked for.")
        size = 0
        async for piece in self._response.aiter_raw():
            size += len(piece)
            if size > MOST_BYTES:
                raise errors.broken(self._call.title, f"sent more than {MOST_BYTES:,} bytes.")
            yield piece

    async def content(self) -> bytes:
        """The whole body."""
        if self._content is None:
            content = bytearray()
            async for piece in self.pieces():  # each by itself would take many times its bytes if they are small
                content += piece
            self._content = bytes(content)
        return self._content

    async def parsed(self) -> Any:  # noqa: ANN401 - any JSON
        """The whole body as JSON. ValueError when it is none."""
        content = await self.content()
        if len(content) < _BESIDE_BYTES:
            return read_json(content)
        return await asyncio.to_thread(read_json, content)

    async def close(self) -> None:
        """Its connection is free for another call, if the body was read."""
        await self._response.aclose()

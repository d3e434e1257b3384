"""A provider's HTTP response, read within bounds: a caller may have named the server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from services.generation.providers.transport.answer_memory import HeldAnswer
from services.generation.providers.transport.bounded_json import read_json

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
"""Of one body, whole or streamed: several generated images in base64."""
MAX_INLINE_PARSE_BYTES = 1024 * 1024
"""Longer bodies are parsed in a thread, so that other calls are not held up."""
_PIECE_BYTES = 64 * 1024
"""Of a body that was read before, as long as what arrives from a connection."""
_UNCOMPRESSED = frozenset({"", "identity"})


class ProviderResponse:
    """A response whose body is read once, up to `MAX_RESPONSE_BYTES`, and as far as there is memory for it."""

    def __init__(self, prepared: PreparedRequest, response: httpx.Response, held: HeldAnswer) -> None:
        self._prepared = prepared
        self._response = response
        self._held = held
        self._content: bytes | None = None

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status_code

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self._response.is_success

    def header(self, name: str) -> str | None:
        """Return a header's value, or None if it is absent."""
        value: str | None = self._response.headers.get(name)
        return value

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, or as it was read. Raises UpstreamFailed if it is too long or compressed.

        We ask for no compression: a few bytes could become any number.
        """
        if (self.header("content-encoding") or "").strip().lower() not in _UNCOMPRESSED:
            raise errors.invalid_response(self._prepared.title, "sent a compressed answer, which nobody asked for.")
        if self._content is not None:
            for start in range(0, len(self._content), _PIECE_BYTES):
                yield self._content[start : start + _PIECE_BYTES]
                await asyncio.sleep(0)  # what is made of it takes time, in which other calls wait
            return
        size = 0
        async for piece in self._response.aiter_raw():
            size += len(piece)
            if size > MAX_RESPONSE_BYTES:
                raise errors.invalid_response(self._prepared.title, f"sent more than {MAX_RESPONSE_BYTES:,} bytes.")
            await self._held.add(len(piece))
            yield piece

    def mark_consumed(self) -> None:
        """Count what has come of a stream so far as passed on; not what `read` keeps."""
        if self._content is None:
            self._held.release()

    async def read(self) -> bytes:
        """Return the whole body. Raises as `iter_bytes` does."""
        if self._content is None:
            content = bytearray()
            async for piece in self.iter_bytes():  # a list of small pieces would take many times their bytes
                content += piece
            self._content = bytes(content)
        return self._content

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the whole body parsed as JSON. Raises ValueError if it is none, and as `iter_bytes` does."""
        content = await self.read()
        if len(content) < MAX_INLINE_PARSE_BYTES:
            return read_json(content)
        return await asyncio.to_thread(read_json, content)

    async def close(self) -> None:
        """Release the connection; it can serve another call if the body was read to its end."""
        await self._response.aclose()
        self._held.release()

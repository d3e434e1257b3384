"""Replaces the blob tokens in provider requests by the image data they stand for (claim check, shared/blobs.py)."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.generation.providers.base import PreparedRequest
from shared.blobs import TOKEN, Blobs, InlinedText
from shared.errors import Invalid

_TOKEN = TOKEN.encode()
Acquire = Callable[[str, int], Awaitable[None]]
"""Waits until so many bytes for the provider of a title fit into memory (`image_memory.py`)."""


async def inline_images(
    requests: list[PreparedRequest], organisation: str, blobs: Blobs, acquire: Acquire
) -> list[PreparedRequest]:
    """Return the requests with image data in `content`; samples that share a request share its content.

    `body` keeps the tokens. Raises Invalid (a token without data where an image should be), Internal (the data is
    damaged), Unavailable, and what `acquire` raises.
    """
    inlined = {
        id(prepared): await _inline(prepared, organisation, blobs, acquire)
        for prepared in {id(prepared): prepared for prepared in requests}.values()
    }
    return [inlined[id(prepared)] for prepared in requests]


async def check_images(requests: list[PreparedRequest], organisation: str, blobs: Blobs) -> None:
    """Raise what `inline_images` would raise, without reading the data or waiting for memory."""
    for prepared in {id(prepared): prepared for prepared in requests}.values():
        await _resolve(prepared, organisation, blobs)


async def _inline(prepared: PreparedRequest, organisation: str, blobs: Blobs, acquire: Acquire) -> PreparedRequest:
    resolved = await _resolve(prepared, organisation, blobs)
    if resolved is None:
        return prepared
    await acquire(prepared.title, resolved.size)
    return replace(prepared, content=await resolved.read())


async def _resolve(prepared: PreparedRequest, organisation: str, blobs: Blobs) -> InlinedText | None:
    """Return the content with its tokens looked up, or None if it has no tokens."""
    if _TOKEN not in prepared.content:
        return None
    resolved = await blobs.inline(organisation, prepared.content)
    if resolved.missing_tokens:
        raise Invalid(f"There is no data for {resolved.missing_tokens[0]} in this organisation; send the image itself.")
    return resolved

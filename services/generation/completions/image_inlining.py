"""Replaces the blob tokens in provider requests by the image data they stand for (claim check, shared/blobs.py)."""

from dataclasses import replace

from services.generation.providers.base import PreparedRequest
from shared.blobs import TOKEN, Blobs, InlinedText
from shared.errors import Invalid, TooLarge

_TOKEN = TOKEN.encode()
_MAX_REQUEST_BYTES = 128 * 1024 * 1024
"""Of one request with its images: a few bytes of text can name the same image many times."""


async def inline_images(requests: list[PreparedRequest], organisation: str, blobs: Blobs) -> list[PreparedRequest]:
    """Return the requests with image data in `content`; samples that share a request share its content.

    `body` keeps the tokens. Raises Invalid (a token without data where an image should be), TooLarge, Internal (the
    data is damaged), Unavailable.
    """
    inlined = {
        id(prepared): await _inline(prepared, organisation, blobs)
        for prepared in {id(prepared): prepared for prepared in requests}.values()
    }
    return [inlined[id(prepared)] for prepared in requests]


async def check_images(requests: list[PreparedRequest], organisation: str, blobs: Blobs) -> None:
    """Raise what `inline_images` would raise, without reading the data."""
    for prepared in {id(prepared): prepared for prepared in requests}.values():
        await _resolve(prepared, organisation, blobs)


async def _inline(prepared: PreparedRequest, organisation: str, blobs: Blobs) -> PreparedRequest:
    resolved = await _resolve(prepared, organisation, blobs)
    return prepared if resolved is None else replace(prepared, content=await resolved.read())


async def _resolve(prepared: PreparedRequest, organisation: str, blobs: Blobs) -> InlinedText | None:
    """Return the content with its tokens looked up, or None if it has no tokens."""
    if _TOKEN not in prepared.content:
        return None
    resolved = await blobs.inline(organisation, prepared.content)
    if resolved.missing_tokens:
        raise Invalid(f"There is no data for {resolved.missing_tokens[0]} in this organisation; send the image itself.")
    if resolved.size > _MAX_REQUEST_BYTES:
        raise TooLarge(
            f"With its images the request to {prepared.title} takes {resolved.size:,} bytes; at most "
            f"{_MAX_REQUEST_BYTES:,} fit."
        )
    return resolved

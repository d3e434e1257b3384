"""Claim checks redeemed: a provider gets the images for which everything on the way to it carried tokens."""

from dataclasses import replace

from services.generation.providers.base import PreparedRequest
from shared.blobs import TOKEN, Blobs, Filled
from shared.errors import Invalid, TooLarge

_TOKEN = TOKEN.encode()
_MOST_BYTES = 128 * 1024 * 1024
"""Of one request with its images. A few bytes of text can name the same image many times."""


async def redeem(calls: list[PreparedRequest], organisation: str, blobs: Blobs) -> list[PreparedRequest]:
    """The calls as they are sent; samples that share a call share its content. `PreparedRequest.body` keeps the tokens.

    Errors: Invalid (a token of nothing where an image should be), TooLarge, Internal (damaged), Unavailable.
    """
    redeemed = {
        id(prepared): await _redeem(prepared, organisation, blobs)
        for prepared in {id(prepared): prepared for prepared in calls}.values()
    }
    return [redeemed[id(prepared)] for prepared in calls]


async def check(calls: list[PreparedRequest], organisation: str, blobs: Blobs) -> None:
    """Whether they can be redeemed. Errors: as of `redeem`."""
    for prepared in {id(prepared): prepared for prepared in calls}.values():
        await _filled(prepared, organisation, blobs)


async def _redeem(prepared: PreparedRequest, organisation: str, blobs: Blobs) -> PreparedRequest:
    filled = await _filled(prepared, organisation, blobs)
    return prepared if filled is None else replace(prepared, content=await filled.whole())


async def _filled(prepared: PreparedRequest, organisation: str, blobs: Blobs) -> Filled | None:
    """None: it has no tokens."""
    if _TOKEN not in prepared.content:
        return None
    filled = await blobs.filled(organisation, prepared.content)
    if filled.lost:
        raise Invalid(f"There is no data for {filled.lost[0]} in this organisation; send the image itself.")
    if filled.size > _MOST_BYTES:
        raise TooLarge(
            f"With its images the request to {prepared.title} takes {filled.size:,} bytes; at most {_MOST_BYTES:,} fit."
        )
    return filled

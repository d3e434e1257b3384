"""Claim checks redeemed: a provider gets the images for which everything on the way to it carried tokens."""

from dataclasses import replace

from services.generation.providers.base import Call
from shared.blobs import TOKEN, Blobs, Filled
from shared.errors import Invalid, TooLarge

_TOKEN = TOKEN.encode()
_MOST_BYTES = 128 * 1024 * 1024
"""Of one request with its images. A few bytes of text can name the same image many times."""


async def redeem(calls: list[Call], organisation: str, blobs: Blobs) -> list[Call]:
    """The calls as they are sent; samples that share a call share its content. `Call.body` keeps the tokens.

    Errors: Invalid (a token of nothing where an image should be), TooLarge, Internal (damaged), Unavailable.
    """
    redeemed = {
        id(call): await _redeem(call, organisation, blobs) for call in {id(call): call for call in calls}.values()
    }
    return [redeemed[id(call)] for call in calls]


async def check(calls: list[Call], organisation: str, blobs: Blobs) -> None:
    """Whether they can be redeemed. Errors: as of `redeem`."""
    for call in {id(call): call for call in calls}.values():
        await _filled(call, organisation, blobs)


async def _redeem(call: Call, organisation: str, blobs: Blobs) -> Call:
    filled = await _filled(call, organisation, blobs)
    return call if filled is None else replace(call, content=await filled.whole())


async def _filled(call: Call, organisation: str, blobs: Blobs) -> Filled | None:
    """None: it has no tokens."""
    if _TOKEN not in call.content:
        return None
    filled = await blobs.filled(organisation, call.content)
    if filled.lost:
        raise Invalid(f"There is no data for {filled.lost[0]} in this organisation; send the image itself.")
    if filled.size > _MOST_BYTES:
        raise TooLarge(
            f"With its images the request to {call.title} takes {filled.size:,} bytes; at most {_MOST_BYTES:,} fit."
        )
    return filled

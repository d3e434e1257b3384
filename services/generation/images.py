"""Images named by address, fetched for providers that take data only. The log keeps what the caller sent."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.generation.completion import CompletionRequest
from services.generation.outbound import Outbound
from shared.blobs import LEAST_BYTES, TOKEN
from shared.contracts.chat import ChatMessage, Image, ImageUrl, Text
from shared.errors import Invalid

_MOST_BYTES = 20 * 1024 * 1024
"""What the most generous provider takes of one image (https://ai.google.dev/gemini-api/docs/image-understanding)."""
_SECONDS = 30.0


Keep = Callable[[dict[str, bytes]], Awaitable[None]]
"""Stores contents by their sha256."""


async def inlined(request: CompletionRequest, outbound: Outbound, keep: Keep) -> CompletionRequest:
    """The request with every image in it as data. Errors: Invalid (address, no image), UpstreamFailed, Unavailable."""
    addresses = {
        part.image_url.url
        for message in request.messages or ()
        for part in (message.content if isinstance(message.content, list) else ())
        if isinstance(part, Image) and not part.image_url.url.startswith("data:")
    }
    if not addresses:
        return request
    fetched = await asyncio.gather(*(_data_url(url, outbound, keep) for url in addresses))
    found = dict(zip(addresses, fetched, strict=True))
    return replace(request, messages=[_with_data(message, found) for message in request.messages or ()])


def _with_data(message: ChatMessage, found: dict[str, str]) -> ChatMessage:
    if not isinstance(message.content, list):
        return message
    return message.model_copy(update={"content": [_part(part, found) for part in message.content]})


def _part(part: Text | Image, found: dict[str, str]) -> Text | Image:
    if isinstance(part, Text) or part.image_url.url not in found:
        return part
    return Image(image_url=ImageUrl(url=found[part.image_url.url], detail=part.image_url.detail))


async def _data_url(url: str, outbound: Outbound, keep: Keep) -> str:
    fetched = await outbound.get(url, limit_bytes=_MOST_BYTES, seconds=_SECONDS)
    kind = (fetched.content_type or "").partition(";")[0].strip().lower()
    if fetched.status != 200 or not kind.startswith("image/"):
        raise Invalid(
            f"There is no image at {url[:200]}: the answer is {fetched.status} {kind or 'without a content type'}."
        )
    data = await asyncio.to_thread(base64.b64encode, fetched.content)
    if len(data) < LEAST_BYTES:
        return f"data:{kind};base64,{data.decode()}"
    digest = hashlib.sha256(data).hexdigest()
    await keep({digest: data})
    return f"data:{kind};base64,{TOKEN}{digest}"

"""Images named by address, fetched for providers that take data only. The log keeps what the caller sent."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from services.generation.http.guarded_client import GuardedClient, parse_url
from services.generation.models.request import ModelRequest
from shared.blobs import LEAST_BYTES, TOKEN
from shared.contracts.chat import ChatMessage, Image, ImageUrl, Text
from shared.errors import Invalid, Problem, TooLarge, UpstreamFailed

_MOST_BYTES = 20 * 1024 * 1024
"""What the most generous provider takes of one image (https://ai.google.dev/gemini-api/docs/image-understanding)."""
_MOST_TOGETHER_BYTES = 36 * 1024 * 1024
"""Of one request: as base64 what a body may have (48 MiB), so images by address may be as large as images sent."""
_MOST_ADDRESSES = 100
"""Of one request, as with tools: it may not make this server call others without end."""
_AT_ONCE = 4
"""Of one request: others' servers are not to be run down, and what is under way is in memory."""
_SECONDS = 30.0
_ALL_SECONDS = 120.0
"""For all images of one request."""
_STAND_IN = "data:image/png;base64,AAAA"

Keep = Callable[[dict[str, bytes]], Awaitable[None]]
"""Stores contents by their sha256."""


class ByAddress:
    """The images of one request, fetched once: for its model, and for those that are asked instead."""

    def __init__(self, guarded_client: GuardedClient, keep: Keep) -> None:
        self._outbound = guarded_client
        self._keep = keep
        self._fetching = asyncio.Lock()
        self._fetched: dict[str, str] | Problem | None = None
        """Data URLs by address, large ones with a token; or why there are none."""

    async def inlined(self, request: ModelRequest, refuse: Callable[[ModelRequest], Awaitable[None]]) -> ModelRequest:
        """The request with every image in it as data.

        `refuse` raises what is to be said against the request; it is asked before anything is fetched, with other
        images in their place. Errors: its own, Invalid (address, no image, too many), TooLarge, UpstreamFailed,
        Unavailable.
        """
        addresses = _addresses(request)
        if not addresses:
            return request
        if len(addresses) > _MOST_ADDRESSES:
            raise Invalid(
                f"The messages name {len(addresses)} images by address; at most {_MOST_ADDRESSES} are fetched for one "
                "request: name fewer, or send images as data."
            )
        for address in addresses:
            parse_url(address)
        await refuse(_with_data(request, dict.fromkeys(addresses, _STAND_IN)))
        async with self._fetching:
            if self._fetched is None:
                try:
                    self._fetched = await self._fetch(addresses)
                except Problem as problem:
                    self._fetched = problem
        if isinstance(self._fetched, Problem):
            raise self._fetched
        return _with_data(request, self._fetched)

    async def _fetch(self, addresses: Iterable[str]) -> dict[str, str]:
        """Data URLs by address. Nothing is kept unless all are there."""
        places, room = asyncio.Semaphore(_AT_ONCE), _Room(_MOST_TOGETHER_BYTES)
        try:
            async with asyncio.timeout(_ALL_SECONDS), asyncio.TaskGroup() as group:
                tasks = {address: group.create_task(self._one(address, places, room)) for address in addresses}
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        except TimeoutError as late:
            raise UpstreamFailed(
                f"The images named by address did not all arrive within {_ALL_SECONDS:g} seconds."
            ) from late
        found = {address: task.result() for address, task in tasks.items()}
        await self._keep({image.digest: image.data for image in found.values() if image.is_large})
        return {address: image.url for address, image in found.items()}

    async def _one(self, address: str, places: asyncio.Semaphore, room: "_Room") -> "_Data":
        async with places:
            fetched = await self._outbound.get(
                address, max_bytes=_MOST_BYTES, total_seconds=_SECONDS, on_received=room.take
            )
            kind = (fetched.content_type or "").partition(";")[0].strip().lower()
            if fetched.status != 200 or not kind.startswith("image/"):
                raise Invalid(
                    f"There is no image at {address[:200]}: the answer is {fetched.status} "
                    f"{kind or 'without a content type'}."
                )
            return await asyncio.to_thread(_Data.of, kind, fetched.content)


@dataclass(frozen=True)
class _Data:
    """An image in base64."""

    kind: str
    """Its media type."""
    data: bytes
    digest: str

    @classmethod
    def of(cls, kind: str, content: bytes) -> "_Data":
        """Of what was fetched. Takes a moment for a large one."""
        data = base64.b64encode(content)
        return cls(kind, data, hashlib.sha256(data).hexdigest())

    @property
    def is_large(self) -> bool:
        """Whether a token stands for it."""
        return len(self.data) >= LEAST_BYTES

    @property
    def url(self) -> str:
        """A data URL."""
        return f"data:{self.kind};base64,{TOKEN + self.digest if self.is_large else self.data.decode()}"


class _Room:
    """Bytes that all images of a request may still have."""

    def __init__(self, free: int) -> None:
        self._free = free

    def take(self, count: int) -> None:
        """So many have arrived. Errors: TooLarge."""
        self._free -= count
        if self._free < 0:
            raise TooLarge(
                f"The images named by address have more than {_MOST_TOGETHER_BYTES:,} bytes together: name fewer, or "
                "smaller ones."
            )


def _addresses(request: ModelRequest) -> list[str]:
    """Each once."""
    images = (
        part
        for message in request.messages or ()
        for part in (message.content if isinstance(message.content, list) else ())
        if isinstance(part, Image)
    )
    return list(dict.fromkeys(image.image_url.url for image in images if image.image_url.url[:5].lower() != "data:"))


def _with_data(request: ModelRequest, found: Mapping[str, str]) -> ModelRequest:
    return replace(request, messages=[_message(message, found) for message in request.messages or ()])


def _message(message: ChatMessage, found: Mapping[str, str]) -> ChatMessage:
    if not isinstance(message.content, list):
        return message
    return message.model_copy(update={"content": [_part(part, found) for part in message.content]})


def _part(part: Text | Image, found: Mapping[str, str]) -> Text | Image:
    if isinstance(part, Text) or part.image_url.url not in found:
        return part
    return Image(image_url=ImageUrl(url=found[part.image_url.url], detail=part.image_url.detail))

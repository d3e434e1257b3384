"""Fetches images given by URL, for providers that take image data only. The log keeps the URLs the caller sent."""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from services.generation.http.guarded_client import GuardedClient, GuardedSession
from services.generation.http.urls import parse_url
from services.generation.models.request import ModelRequest
from shared.blobs import MIN_BYTES, TOKEN
from shared.contracts.chat import ChatMessage, Image, ImageUrl, Text
from shared.contracts.data_urls import image_media_type
from shared.errors import Invalid, Problem, UpstreamFailed

_MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""What the most generous provider takes of one image (https://ai.google.dev/gemini-api/docs/image-understanding)."""
_MAX_TOTAL_BYTES = 36 * 1024 * 1024
"""Of one request: as base64 what a body may have (48 MiB), so images by URL may be as large as images sent."""
_MAX_URLS = 100
"""Of one request, as with tools: it may not make this server call others without end."""
_CONCURRENCY = 4
"""Fetches at a time for one request: spares the servers of others, and bounds what is in memory."""
_FETCH_SECONDS = 30.0
"""Timeout of one image."""
_TOTAL_SECONDS = 120.0
"""Timeout of all images of one request."""
_PLACEHOLDER_URL = "data:image/png;base64,AAAA"
"""Stands for each image while the request is validated."""

StoreBlobs = Callable[[dict[str, bytes]], Awaitable[None]]
"""Stores contents by their sha256."""
Validate = Callable[[ModelRequest], Awaitable[None]]
"""Raises a Problem if the request would be refused."""


class RemoteImages:
    """The images of one run, fetched once: for the model that is served and for its fallbacks."""

    def __init__(self, guarded_client: GuardedClient, organisation: str, store_blobs: StoreBlobs) -> None:
        self._guarded_client = guarded_client
        self._organisation = organisation
        self._store_blobs = store_blobs
        self._lock = asyncio.Lock()
        self._fetched: dict[str, str] | Problem | None = None
        """Data URLs by URL, large ones with a blob token; or the problem that fetching ended in."""

    async def inline(self, request: ModelRequest, validate: Validate) -> ModelRequest:
        """Return the request with every image URL replaced by a data URL.

        `validate` is awaited before anything is fetched, with placeholders for the images. Raises what it raises,
        Invalid (URL, not an image, too many), TooLarge, UpstreamFailed, Unavailable.
        """
        urls = _remote_urls(request)
        if not urls:
            return request
        if len(urls) > _MAX_URLS:
            raise Invalid(
                f"The messages name {len(urls)} images by address; at most {_MAX_URLS} are fetched for one "
                "request: name fewer, or send images as data."
            )
        for url in urls:
            parse_url(url)
        await validate(_with_data_urls(request, dict.fromkeys(urls, _PLACEHOLDER_URL)))
        async with self._lock:
            if self._fetched is None:
                try:
                    self._fetched = await self._fetch_all(urls)
                except Problem as problem:
                    self._fetched = problem
        if isinstance(self._fetched, Problem):
            raise self._fetched
        return _with_data_urls(request, self._fetched)

    async def _fetch_all(self, urls: Iterable[str]) -> dict[str, str]:
        """Return data URLs by URL. Nothing is stored unless all could be fetched."""
        with self._guarded_client.session(self._organisation, _MAX_TOTAL_BYTES, "images named by address") as session:
            semaphore = asyncio.Semaphore(_CONCURRENCY)
            try:
                async with asyncio.timeout(_TOTAL_SECONDS), asyncio.TaskGroup() as group:
                    tasks = {url: group.create_task(_fetch(url, session, semaphore)) for url in urls}
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            except TimeoutError as error:
                raise UpstreamFailed(
                    f"The images named by address did not all arrive within {_TOTAL_SECONDS:g} seconds."
                ) from error
            images = {url: task.result() for url, task in tasks.items()}
            await self._store_blobs({image.digest: image.data for image in images.values() if image.is_large})
            return {url: image.data_url for url, image in images.items()}


async def _fetch(url: str, session: GuardedSession, semaphore: asyncio.Semaphore) -> "_EncodedImage":
    async with semaphore:
        fetched = await session.get(url, max_bytes=_MAX_IMAGE_BYTES, total_seconds=_FETCH_SECONDS)
        media_type = (fetched.content_type or "").partition(";")[0].strip().lower()
        if fetched.status != 200 or not media_type.startswith("image/"):
            raise Invalid(
                f"There is no image at {url[:200]}: the answer is {fetched.status} "
                f"{media_type or 'without a content type'}."
            )
        return await asyncio.to_thread(_EncodedImage.encode, media_type, fetched.content)


@dataclass(frozen=True)
class _EncodedImage:
    media_type: str
    data: bytes
    """Base64."""
    digest: str
    """sha256 of `data`, hex."""

    @classmethod
    def encode(cls, media_type: str, content: bytes | bytearray) -> "_EncodedImage":
        """Encode and hash; blocks for some milliseconds if the image is large.

        `media_type` is used if the bytes do not tell theirs.
        """
        data = base64.b64encode(content)
        return cls(image_media_type(content) or media_type, data, hashlib.sha256(data).hexdigest())

    @property
    def is_large(self) -> bool:
        """Whether it is stored as a blob, with a token in its place."""
        return len(self.data) >= MIN_BYTES

    @property
    def data_url(self) -> str:
        """RFC 2397, with a blob token instead of the data if it is large."""
        return f"data:{self.media_type};base64,{TOKEN + self.digest if self.is_large else self.data.decode()}"


def _remote_urls(request: ModelRequest) -> list[str]:
    """Return the image URLs that are not data URLs, without duplicates, in order."""
    images = (
        part
        for message in request.messages or ()
        for part in (message.content if isinstance(message.content, list) else ())
        if isinstance(part, Image)
    )
    return list(dict.fromkeys(image.image_url.url for image in images if image.image_url.url[:5].lower() != "data:"))


def _with_data_urls(request: ModelRequest, data_urls: Mapping[str, str]) -> ModelRequest:
    return replace(request, messages=[_replace_in_message(message, data_urls) for message in request.messages or ()])


def _replace_in_message(message: ChatMessage, data_urls: Mapping[str, str]) -> ChatMessage:
    if not isinstance(message.content, list):
        return message
    return message.model_copy(update={"content": [_replace_in_part(part, data_urls) for part in message.content]})


def _replace_in_part(part: Text | Image, data_urls: Mapping[str, str]) -> Text | Image:
    if isinstance(part, Text) or part.image_url.url not in data_urls:
        return part
    return Image(image_url=ImageUrl(url=data_urls[part.image_url.url], detail=part.image_url.detail))

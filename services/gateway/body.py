"""Request bodies: read as JSON, and rid of what the rest of the process must not see or could not carry.

`provider_api_keys`: clients of the seed era put that field, with real secrets, into nearly every body (behaviour.md
§1.2). It is taken out wherever it stands; what stood at the top is kept beside the body for the routes that call a
provider. Large images: a token of each is left in the body, and answers have the image again.

A large body costs memory, so it is read for callers with a good key only, and while there is room for it.
"""

import asyncio
import functools
import json
import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic_core import from_json

from services.gateway.deps import KEY_HEADER, Gateway
from services.gateway.image_offload import OffloadedImages, offload_images
from services.gateway.limits import SMALL_BYTES, declared_length
from shared.blobs import LEAST_BYTES, TOKEN
from shared.errors import TooLarge

SECRETS = "provider_api_keys"
DEEPEST = 128
"""Levels of nesting a body may have."""
MOST_TEXT_BYTES = 4 * 1024 * 1024
"""Of a body without its large images. Below the bus's 8 MB message limit, because a log can grow by its template."""
_LARGE_BYTES = 1024 * 1024
"""Reading more than this would keep the other requests waiting, so it is done beside them."""
_BESIDE = ThreadPoolExecutor(1, thread_name_prefix="large bodies")
"""One after the other: several at once are no faster, and take their memory at the same time."""
_TOKEN = TOKEN.encode()


class _Read(NamedTuple):
    parsed: Any
    provider_api_keys: Any
    offloaded: OffloadedImages | None


class CleanRequest(Request):
    """A request whose JSON has no provider keys and no large images in it."""

    _room = 0
    """Bytes that were taken of what all large bodies may have."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Errors: of one that is large, or does not say how large, Unauthenticated before anything is read; Unavailable,
        there are too many.
        """
        declared = declared_length(self.headers)
        if declared is None or declared > SMALL_BYTES:
            await self._gateway.authenticator.authenticate(self.headers.get(KEY_HEADER))
            self._take_room(declared or 0)
        async with aclosing(super().stream()) as pieces:
            async for piece in pieces:
                if declared is None:
                    self._take_room(len(piece))
                yield piece

    def _take_room(self, size: int) -> None:
        self._gateway.large_bodies.take(size)
        self._room += size

    def give_back_room(self) -> None:
        """The body is stored, or will not be."""
        self._gateway.large_bodies.give_back(self._room)
        self._room = 0

    async def body(self) -> bytes:
        """The body. Of a large one, read at once, a byte: FastAPI holds what it is given until it has answered.

        Errors: JSONDecodeError; TooLarge, its text alone is over the limit; those of `stream`.
        """
        raw = await super().body()
        if len(raw) > _LARGE_BYTES:
            self._take(await asyncio.get_running_loop().run_in_executor(_BESIDE, _read, raw))
            raw = self._body = raw[:1]
        return raw

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """What the body says; what was taken out of it goes to `request.state`."""
        if not hasattr(self, "_json"):
            self._take(_read(await self.body()))
        return self._json

    def _take(self, read: "_Read") -> None:
        self.state.provider_api_keys = read.provider_api_keys
        self.state.offloaded = read.offloaded
        self._json = read.parsed

    async def keep(self, *, unsaved: bool) -> None:
        """Store the images of this request, for the organisation its guard found; with `unsaved` also, for a while,
        those that shall not be saved. Unavailable: nothing was accepted.
        """
        offloaded: OffloadedImages | None = getattr(self.state, "offloaded", None)
        self.state.offloaded = None
        if offloaded and offloaded.contents:
            await self._gateway.blobs.keep(self.state.organisation, offloaded.contents)
        if offloaded and unsaved and offloaded.unsaved:
            await self._gateway.blobs.keep(self.state.organisation, offloaded.unsaved, brief=True)
        self.give_back_room()

    async def filled(self, response: Response) -> Response:
        """The answer with the images its tokens stand for, piece by piece."""
        if _TOKEN not in getattr(response, "body", b""):
            return response
        filled = await self._gateway.blobs.filled(self.state.organisation, bytes(response.body))
        headers = {**response.headers, "content-length": str(filled.size)}
        return StreamingResponse(filled.pieces(), response.status_code, headers, background=response.background)

    @property
    def _gateway(self) -> Gateway:
        gateway: Gateway = self.app.state.gateway
        return gateway


def _read(raw: bytes) -> _Read:
    try:
        parsed = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise json.JSONDecodeError(str(error), raw.decode(errors="replace"), 0) from error
    keys = parsed.get(SECRETS) if isinstance(parsed, dict) else None
    offloaded = offload_images(parsed) if _clean(parsed, raw) else None
    text = len(raw) - (offloaded.size if offloaded else 0)
    if text > MOST_TEXT_BYTES:
        raise TooLarge(
            f"The text of this request takes {text:,} bytes, at most {MOST_TEXT_BYTES:,} fit; send less. Images "
            f"as base64 data URLs of {LEAST_BYTES:,} bytes and more are not counted."
        )
    return _Read(parsed, keys, offloaded)


def _clean(parsed: Any, raw: bytes) -> bool:  # noqa: ANN401 - any JSON
    """Strip the keys; refuse what could be read here and nowhere after. True: a string is as long as a large image.

    Bus messages and documents wrap a body in a few levels of their own, and JSON has no infinity to write 1e999 with.
    """
    level, long = [parsed], False
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                long = long or len(item) > LEAST_BYTES
            elif kind is dict:
                item.pop(SECRETS, None)
                inner.extend(item.values())
            elif kind is list:
                inner.extend(item)
            elif kind is float and math.isinf(item):
                raise json.JSONDecodeError("a number is too large to be kept", raw.decode(errors="replace"), 0)
        if not inner:
            return long
        level = inner
    raise json.JSONDecodeError(f"nested more than {DEEPEST} levels deep", raw.decode(errors="replace"), 0)


_current: ContextVar[CleanRequest] = ContextVar("_current")


class CleanRoute(APIRoute):
    """A route whose handler gets a `CleanRequest`, is called when its images are durable, and answers with images."""

    uses_unsaved: ClassVar[bool] = True
    """Whether it works with what `save: false` says shall not be kept."""
    keeps_itself: ClassVar[bool] = False
    """Whether its handler calls `keep_images`, because it alone can say whether they shall be."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        kept = endpoint if self.keeps_itself else _after_keeping(endpoint, unsaved=self.uses_unsaved)
        super().__init__(path, kept, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's documented place to exchange the request."""
        handle = super().get_route_handler()

        async def handle_clean(request: Request) -> Response:
            clean = CleanRequest(request.scope, request.receive)
            _current.set(clean)
            try:
                response = await handle(clean)
            finally:
                clean.give_back_room()
            return await clean.filled(response)

        return handle_clean


class RecordingRoute(CleanRoute):
    """A route that writes down what it is sent, and has no other use for it."""

    uses_unsaved = False


class CompletingRoute(CleanRoute):
    """A route that adds to what is there already, which may be something that shall not be saved."""

    keeps_itself = True


async def keep_images() -> None:
    """Store the images of the request in hand: for the handlers of `CompletingRoute`, before anything is accepted.

    Errors: Unavailable.
    """
    await _current.get().keep(unsaved=False)


def _after_keeping(endpoint: Callable[..., Any], *, unsaved: bool) -> Callable[..., Any]:
    """Images are stored between the checks of guard and schema and the first line of the route: none can forget it."""

    @functools.wraps(endpoint)
    async def kept(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - whatever the endpoint takes and gives
        await _current.get().keep(unsaved=unsaved)
        return await endpoint(*args, **values)

    return kept

"""The FastAPI route classes of the gateway: they parse the body, store its images and inline images in the answer."""

import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ClassVar, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.gateway.authentication.authenticator import Authenticator
from services.gateway.requests.admission import BodyAdmission, BodyRoom
from services.gateway.requests.callers import admit_caller
from services.gateway.requests.images import OffloadedImages, has_image_tokens, inline_images, store_images
from services.gateway.requests.json_size import JsonSize, measure_json
from services.gateway.requests.parsing import (
    THREAD_BYTES,
    ParsedBody,
    measure_body_in_thread,
    parse_body,
    parse_body_in_thread,
)
from services.gateway.requests.rate_limits import RateLimits
from services.gateway.requests.reads import Reads
from services.gateway.responses.held_response import PIECE_BYTES, HeldResponse
from services.gateway.server.client_address import TrustedProxies
from shared.blobs import Blobs
from shared.fair_order import FairOrder


class _Gateway(Protocol):
    """What this room needs of `app.state.gateway`."""

    @property
    def authenticator(self) -> Authenticator: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def body_room(self) -> BodyRoom: ...
    @property
    def fair_order(self) -> FairOrder: ...
    @property
    def rate_limits(self) -> RateLimits: ...
    @property
    def reads(self) -> Reads: ...
    @property
    def trusted_proxies(self) -> TrustedProxies: ...


class BodyRequest(Request):
    """A request whose JSON body has no provider keys and no large images in it.

    Parsing sets `state.provider_api_keys` (the top-level field as sent) and `state.images` (what was offloaded).
    """

    def __init__(self, request: Request, gateway: _Gateway, organisation: str) -> None:
        super().__init__(request.scope, request.receive)
        self._gateway = gateway
        self._organisation = organisation
        self._admission = BodyAdmission(self.headers, organisation, gateway.body_room)

    def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the body as they arrive. Raises the errors of `BodyAdmission.admit`."""
        return self._admission.admit(super().stream())

    async def body(self) -> bytes:
        """Return the body. One of more than `THREAD_BYTES` is parsed here and only its first byte is returned, because
        FastAPI holds what it is given until it has answered.

        Raises the errors of `measure_json`, `parse_body` and `stream`.
        """
        if not hasattr(self, "_body"):
            raw = bytearray()
            async for chunk in self.stream():
                raw += chunk
            if len(raw) > THREAD_BYTES:
                size = await measure_body_in_thread(raw)
                self._admission.hold(len(raw) + size.parsed_bytes)
                self._set_parsed(await parse_body_in_thread(raw), size)
            self._body = bytes(raw[:1]) if len(raw) > THREAD_BYTES else bytes(raw)
        return self._body

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed body. Raises the errors of `body`."""
        if not hasattr(self, "_json"):
            raw = await self.body()
            size = measure_json(raw)
            self._admission.hold(len(raw) + size.parsed_bytes)
            self._set_parsed(parse_body(raw), size)
        return self._json

    def _set_parsed(self, parsed: ParsedBody, size: JsonSize) -> None:
        self.state.provider_api_keys = parsed.provider_api_keys
        self.state.images = parsed.images
        self._json = parsed.content
        self._parsed_bytes = size.parsed_bytes
        self._admission.hold(size.parsed_bytes + (parsed.images.size if parsed.images else 0))

    async def store_images(self, *, include_unsaved: bool) -> None:
        """Store the images of this request, and release their room.

        With `include_unsaved` images of content with `save: false` are stored for a limited time, else not at all.
        Raises Unavailable if they cannot be stored.
        """
        images: OffloadedImages | None = getattr(self.state, "images", None)
        self.state.images = None
        if images:
            await store_images(self._gateway.blobs, self._organisation, images, include_unsaved=include_unsaved)
            self._admission.hold(self._parsed_bytes)

    async def inline_images(self, response: Response) -> Response:
        """Return the response with the data of its image tokens, if it has any. Raises Unavailable."""
        if not has_image_tokens(response):
            return response
        return await inline_images(self._gateway.blobs, self._organisation, response)

    def hold_answer(self, response: Response) -> Response:
        """Return a response that holds room until it is sent, if it is large. Raises Unavailable if there is none."""
        size = len(getattr(response, "body", b""))
        if size <= PIECE_BYTES:
            return response
        resize = self._gateway.body_room.resize
        resize(self._organisation, 0, size)
        return HeldResponse(response, partial(resize, self._organisation, size, 0))

    def release(self) -> None:
        """Release the room that the body holds."""
        self._admission.release()


_current_request: ContextVar[BodyRequest] = ContextVar("_current_request")


class BodyRoute(APIRoute):
    """A route whose endpoint gets a `BodyRequest`, runs when its images are durable, and answers with images."""

    stores_unsaved_images: ClassVar[bool] = True
    """Whether images of content with `save: false` are stored for a limited time, because the endpoint uses them."""
    endpoint_stores_images: ClassVar[bool] = False
    """Whether the endpoint calls `store_request_images` itself instead."""
    is_read: ClassVar[bool] = False
    """Whether its requests are reads though their method is not GET."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        if not self.endpoint_stores_images:
            endpoint = _with_stored_images(endpoint, include_unsaved=self.stores_unsaved_images)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, called with a `BodyRequest`: the override FastAPI documents for custom requests."""
        handle = super().get_route_handler()

        async def handle_body_request(request: Request) -> Response:
            gateway: _Gateway = request.app.state.gateway
            caller = await admit_caller(request, gateway)
            await gateway.fair_order.wait(caller.organisation)
            body_request = BodyRequest(request, gateway, caller.organisation)
            _current_request.set(body_request)
            is_read = self.is_read or request.method == "GET"
            async with gateway.reads.turn(caller.organisation) if is_read else nullcontext():
                try:
                    response = await handle(body_request)
                except BaseException as error:
                    _drop_locals(error)
                    raise
                finally:
                    body_request.release()
                return body_request.hold_answer(await body_request.inline_images(response))

        return handle_body_request


class SavedImagesRoute(BodyRoute):
    """A route that only records its body: images of content with `save: false` are not stored."""

    stores_unsaved_images = False


class DeferredImagesRoute(BodyRoute):
    """A route whose endpoint decides whether images are stored: they may belong to a log that is not to be saved."""

    endpoint_stores_images = True


class ReadRoute(BodyRoute):
    """A route that only reads, whatever its method."""

    is_read = True


async def store_request_images() -> None:
    """Store the images of the current request: for endpoints of a `DeferredImagesRoute`, before they accept anything.

    Raises Unavailable if they cannot be stored.
    """
    await _current_request.get().store_images(include_unsaved=False)


def _drop_locals(error: BaseException) -> None:
    """Drop the local variables of the calls that `error` ended, and of those that ended before it.

    They hold the body, and FastAPI's and ours hold the error: such a cycle would stand until a full garbage collection.
    """
    ended: BaseException | None = error
    seen = set[int]()
    while ended is not None and id(ended) not in seen:
        seen.add(id(ended))
        traceback.clear_frames(ended.__traceback__)
        ended = ended.__cause__ or ended.__context__


def _with_stored_images(endpoint: Callable[..., Any], *, include_unsaved: bool) -> Callable[..., Any]:
    """Wrap `endpoint`, so that images are stored after guard and validation and before its first line."""

    @wraps(endpoint)
    async def store_images_and_call(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - the endpoint's own
        await _current_request.get().store_images(include_unsaved=include_unsaved)
        return await endpoint(*args, **values)

    return store_images_and_call

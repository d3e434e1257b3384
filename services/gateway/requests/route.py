"""The FastAPI route classes of the gateway: they parse the body, store its images and inline images in the answer."""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.gateway.authentication import Authenticator
from services.gateway.requests.admission import BodyAdmission, LargeBodyBudget
from services.gateway.requests.images import OffloadedImages, has_image_tokens, inline_images, store_images
from services.gateway.requests.parsing import THREAD_BYTES, ParsedBody, parse_body, parse_body_in_thread
from shared.blobs import Blobs


class _Gateway(Protocol):
    """What this room needs of `app.state.gateway`."""

    @property
    def authenticator(self) -> Authenticator: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def large_bodies(self) -> LargeBodyBudget: ...


class BodyRequest(Request):
    """A request whose JSON body has no provider keys and no large images in it.

    Parsing sets `state.provider_api_keys` (the top-level field as sent) and `state.images` (what was offloaded).
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request.scope, request.receive)
        self._gateway: _Gateway = self.app.state.gateway
        self._admission = BodyAdmission(self.headers, self._gateway.authenticator, self._gateway.large_bodies)

    def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the body as they arrive. Raises the errors of `BodyAdmission.admit`."""
        return self._admission.admit(super().stream())

    async def body(self) -> bytes:
        """Return the body. One of more than `THREAD_BYTES` is parsed here and only its first byte is returned, because
        FastAPI holds what it is given until it has answered.

        Raises the errors of `parse_body` and of `stream`.
        """
        raw = await super().body()
        if len(raw) > THREAD_BYTES:
            self._set_parsed(await parse_body_in_thread(raw))
            raw = self._body = raw[:1]
        return raw

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed body. Raises the errors of `parse_body` and of `stream`."""
        if not hasattr(self, "_json"):
            self._set_parsed(parse_body(await self.body()))
        return self._json

    def _set_parsed(self, parsed: ParsedBody) -> None:
        self.state.provider_api_keys = parsed.provider_api_keys
        self.state.images = parsed.images
        self._json = parsed.content

    async def store_images(self, *, include_unsaved: bool) -> None:
        """Store the images of this request for the organisation its guard set, and release the body's budget.

        With `include_unsaved` images of content with `save: false` are stored for a limited time, else not at all.
        Raises Unavailable if they cannot be stored.
        """
        images: OffloadedImages | None = getattr(self.state, "images", None)
        self.state.images = None
        if images:
            await store_images(self._gateway.blobs, self.state.organisation, images, include_unsaved=include_unsaved)
        self.release()

    async def inline_images(self, response: Response) -> Response:
        """Return the response with the data of its image tokens, if it has any. Raises Unavailable."""
        if not has_image_tokens(response):
            return response
        return await inline_images(self._gateway.blobs, self.state.organisation, response)

    def release(self) -> None:
        """Release the budget that the body holds."""
        self._admission.release()


_current_request: ContextVar[BodyRequest] = ContextVar("_current_request")


class BodyRoute(APIRoute):
    """A route whose endpoint gets a `BodyRequest`, runs when its images are durable, and answers with images."""

    stores_unsaved_images: ClassVar[bool] = True
    """Whether images of content with `save: false` are stored for a limited time, because the endpoint uses them."""
    endpoint_stores_images: ClassVar[bool] = False
    """Whether the endpoint calls `store_request_images` itself instead."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        if not self.endpoint_stores_images:
            endpoint = _with_stored_images(endpoint, include_unsaved=self.stores_unsaved_images)
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, called with a `BodyRequest`: the override FastAPI documents for custom requests."""
        handle = super().get_route_handler()

        async def handle_body_request(request: Request) -> Response:
            body_request = BodyRequest(request)
            _current_request.set(body_request)
            try:
                response = await handle(body_request)
            finally:
                body_request.release()
            return await body_request.inline_images(response)

        return handle_body_request


class SavedImagesRoute(BodyRoute):
    """A route that only records its body: images of content with `save: false` are not stored."""

    stores_unsaved_images = False


class DeferredImagesRoute(BodyRoute):
    """A route whose endpoint decides whether images are stored: they may belong to a log that is not to be saved."""

    endpoint_stores_images = True


async def store_request_images() -> None:
    """Store the images of the current request: for endpoints of a `DeferredImagesRoute`, before they accept anything.

    Raises Unavailable if they cannot be stored.
    """
    await _current_request.get().store_images(include_unsaved=False)


def _with_stored_images(endpoint: Callable[..., Any], *, include_unsaved: bool) -> Callable[..., Any]:
    """Wrap `endpoint`, so that images are stored after guard and validation and before its first line."""

    @functools.wraps(endpoint)
    async def store_images_and_call(*args: Any, **values: Any) -> Any:  # noqa: ANN401 - the endpoint's own
        await _current_request.get().store_images(include_unsaved=include_unsaved)
        return await endpoint(*args, **values)

    return store_images_and_call

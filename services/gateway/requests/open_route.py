"""The FastAPI route class of operations for which nobody is authenticated: it reads small bodies only."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.gateway.requests.callers import admit_anybody
from services.gateway.requests.parsing import parse_body
from shared.errors import TooLarge, Unsupported

MAX_BYTES = 16 * 1024
"""Of a body. Whoever sends it is not known, so it must not take more of the process than a request's headers do."""


class OpenRequest(Request):
    """A request whose JSON body is bounded, with the same errors as the bodies of other requests."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the body. Raises TooLarge, Unsupported (compressed)."""
        if self.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            raise Unsupported("Compressed bodies are not read: send the body without Content-Encoding.")
        size = 0
        async for chunk in super().stream():
            size += len(chunk)
            if size > MAX_BYTES:
                raise TooLarge(f"The body is over the limit of {MAX_BYTES:,} bytes of this operation.")
            yield chunk

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed body. Raises InvalidJson and the errors of `stream`."""
        if not hasattr(self, "_json"):
            self._json = parse_body(await self.body()).content
        return self._json


class OpenRoute(APIRoute):
    """A route whose endpoint may be called by anybody."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, called with an `OpenRequest`."""
        handle = super().get_route_handler()

        async def handle_open_request(request: Request) -> Response:
            await admit_anybody(request, request.app.state.gateway)
            return await handle(OpenRequest(request.scope, request.receive))

        return handle_open_request

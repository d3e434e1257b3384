"""Sends large responses in pieces, so that what a caller does not read is held once and counted."""

from collections.abc import Callable

from fastapi import Response
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 64 * 1024


class HeldResponse(Response):
    """A large response; `release` is called when it is sent, or when its caller has left."""

    def __init__(self, response: Response, release: Callable[[], None]) -> None:
        self._response = response
        self._release = release

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response; the server takes a piece when the caller has read those before it."""
        try:
            start = {"type": "http.response.start", "status": self._response.status_code}
            await send(start | {"headers": self._response.raw_headers})
            body = memoryview(self._response.body)
            for first in range(0, len(body), PIECE_BYTES):
                last = first + PIECE_BYTES
                piece = bytes(body[first:last])
                await send({"type": "http.response.body", "body": piece, "more_body": last < len(body)})
        finally:
            self._release()

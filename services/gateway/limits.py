"""Bodies over the limit by their own account are refused before they are read, in the unified shape.

FastAPI's `max_body_size` counts those that do not say how long they are; its answer to the others is plain text.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.errors import shape_b
from shared.errors import TooLarge


class DeclaredLength:
    """ASGI wrapper around the whole application."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at `Content-Length`."""
        if scope["type"] == "http":
            declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
            if declared.isdigit() and (len(declared) > 18 or int(declared) > self._limit):
                problem = TooLarge(f"The body is over the limit of {self._limit:,} bytes; send less at once.")
                await shape_b(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

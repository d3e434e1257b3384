"""How much of what callers send is taken in.

A body over the limit by its own account is refused before it is read, in the unified shape. FastAPI's `max_body_size`
counts those that do not say how long they are; its answer to the others is plain text. All large bodies together have a
limit, too.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.errors import shape_b
from shared.errors import TooLarge, Unavailable

SMALL_BYTES = 64 * 1024
"""A body up to this is read without asking who sent it: uvicorn reads so far ahead, whether anybody wants it or not."""


def declared_length(headers: Headers) -> int | None:
    """Bytes of the body by its own account; None: it gives none."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() and "transfer-encoding" not in headers else None


class LargeBodies:
    """The bytes of large bodies that are being read or stored, of all requests together."""

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes

    def take(self, size: int) -> None:
        """Make room. Unavailable: there is none at the moment."""
        if size > self._free:
            raise Unavailable(
                "There are as many large requests in hand as fit; nothing of this one was kept. Try again."
            )
        self._free -= size

    def give_back(self, size: int) -> None:
        """So much was stored, or let go."""
        self._free += size


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

"""Decides which request bodies are read: below the size limit, large ones only with a valid key and within a budget.

A large body costs memory, so callers without a valid key cannot make the process hold one, and all callers together
cannot make it hold more than the budget.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.authentication import KEY_HEADER, Authenticator
from services.gateway.errors import problem_response
from shared.errors import TooLarge, Unavailable

MAX_UNAUTHENTICATED_BYTES = 64 * 1024
"""A body up to this size is read before its caller is authenticated: uvicorn buffers that much in any case."""


class LargeBodyBudget:
    """The bytes that the large bodies being read or stored may take in all requests of this process together."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes

    def acquire(self, size: int) -> None:
        """Take `size` bytes. Raises Unavailable if fewer are free."""
        if size > self._free:
            raise Unavailable(
                "There are as many large requests in hand as fit; nothing of this one was kept. Try again."
            )
        self._free -= size

    def release(self, size: int) -> None:
        """Return `size` acquired bytes."""
        self._free += size


class BodyAdmission:
    """The admission of one body: authenticates the caller if it is large, and holds its share of the budget."""

    def __init__(self, headers: Headers, authenticator: Authenticator, budget: LargeBodyBudget) -> None:
        self._headers = headers
        self._authenticator = authenticator
        self._budget = budget
        self._acquired = 0

    async def admit(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the body.

        Of a body over `MAX_UNAUTHENTICATED_BYTES` or of undeclared length: raises Unauthenticated before anything is
        read; Unavailable if the budget is used up, before reading where the length is declared, else as the body grows.
        """
        length = declared_length(self._headers)
        if length is None or length > MAX_UNAUTHENTICATED_BYTES:
            await self._authenticator.authenticate(self._headers.get(KEY_HEADER))
            self._acquire(length or 0)
        async with aclosing(chunks):
            async for chunk in chunks:
                if length is None:
                    self._acquire(len(chunk))
                yield chunk

    def _acquire(self, size: int) -> None:
        self._budget.acquire(size)
        self._acquired += size

    def release(self) -> None:
        """Return this request's share: its body was stored, or is dropped. May be called repeatedly."""
        self._budget.release(self._acquired)
        self._acquired = 0


def declared_length(headers: Headers) -> int | None:
    """Return `Content-Length` in bytes; None if it is absent, unreadable or overridden by `Transfer-Encoding`."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and "transfer-encoding" not in headers else None


class ContentLengthMiddleware:
    """ASGI middleware: refuses a body over the limit by its `Content-Length` before it is read, as a unified error.

    Bodies that declare no length are counted by FastAPI's `max_body_size`, whose answer to the others is plain text.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 if `Content-Length` exceeds the limit, else call the application."""
        if scope["type"] == "http":
            length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
            if length.isdigit() and (len(length) > 18 or int(length) > self._max_bytes):
                problem = TooLarge(f"The body is over the limit of {self._max_bytes:,} bytes; send less at once.")
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

"""Decides which request bodies are read: of callers with a valid key, below the size limit, while there is room.

A body costs memory, so callers without a valid key cannot make the process hold one, all callers together cannot make
it hold more than the room, and one organisation never takes the room of the others.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.errors import problem_response
from shared.errors import TooLarge, Unavailable, Unsupported


class BodyRoom:
    """The bytes that the bodies of all requests in hand may take, shared by the organisations."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._held: dict[str, int] = {}

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    def resize(self, organisation: str, old: int, new: int) -> None:
        """Hold `new` bytes for a request of an organisation, which held `old`.

        Raises Unavailable, and leaves it at `old`, if the organisation would then hold more than is free for others.
        """
        held, free = self._held.get(organisation, 0) + new - old, self._free + old - new
        if new > old and held > free:
            raise Unavailable(
                "There are as many large requests in hand as fit; nothing of this one was kept. Try again."
            )
        self._free = free
        if held:
            self._held[organisation] = held
        else:
            self._held.pop(organisation, None)


class BodyAdmission:
    """The admission of one body of an organisation: holds room for what has arrived."""

    def __init__(self, headers: Headers, organisation: str, room: BodyRoom) -> None:
        self._headers = headers
        self._organisation = organisation
        self._room = room
        self._held = 0

    async def admit(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of the body.

        Raises Unsupported (it is compressed) before anything is read; Unavailable if there is no room for what has
        arrived.
        """
        encoding = self._headers.get("content-encoding", "identity")
        if encoding.lower() not in ("identity", ""):
            raise Unsupported("Compressed bodies are not read: send the body without Content-Encoding.")
        async with aclosing(chunks):
            async for chunk in chunks:
                self.hold(self._held + len(chunk))
                yield chunk

    def hold(self, size: int) -> None:
        """Hold `size` bytes from now on. Raises Unavailable if there is no room for more."""
        self._room.resize(self._organisation, self._held, size)
        self._held = size

    def release(self) -> None:
        """Return this request's share: its body is dropped. May be called repeatedly."""
        self.hold(0)


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

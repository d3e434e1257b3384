"""Body size: refused by its declared length at once, else as soon as it grows over the limit."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.errors import shape_b
from shared.errors import TooLarge


class BodyLimit:
    """ASGI middleware that answers 413 to bodies over `limit` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what arrives."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = shape_b(TooLarge(f"The body is over the limit of {self._limit:,} bytes; send less at once."))
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self._limit:
            await refusal(scope, receive, send)
            return
        received = 0
        over = False
        started = False

        async def counted() -> Message:
            nonlocal received, over
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                over = True
                return {"type": "http.disconnect"}
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if not over:
                started = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            if not over:
                raise
        if over and not started:
            await refusal(scope, receive, send)

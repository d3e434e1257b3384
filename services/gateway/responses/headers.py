"""Headers that every answer has, whoever made it, and `HEAD`."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""An answer is data of one organisation, and may hold a new key: no browser guesses its type, no cache keeps it. An
answer that sets one of them itself keeps its own (https://owasp.org/www-project-secure-headers, 2026-11)."""


class ResponseHeadersMiddleware:
    """ASGI middleware, the outermost: adds `SECURITY_HEADERS`, and answers `HEAD` as `GET` without the content."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; change what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = {name.lower() for name, _ in message.get("headers", ())}
                added = [header for header in SECURITY_HEADERS if header[0] not in sent]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send_with_headers)

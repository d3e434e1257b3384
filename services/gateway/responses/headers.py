"""Headers that every answer has, whoever made it, and `HEAD`."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""An answer is data of one organisation, and may hold a new key: no browser guesses its type, no cache keeps it. An
answer that sets one of them itself keeps its own (https://owasp.org/www-project-secure-headers, 2026-11)."""

STRICT_TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=31536000")
"""Only where people reach Everloop over TLS: a browser then opens the host over TLS alone for a year."""


class ResponseHeadersMiddleware:
    """ASGI middleware, the outermost: adds `SECURITY_HEADERS`, and answers `HEAD` as `GET` without the content."""

    def __init__(self, app: ASGIApp, public_url: str | None = None) -> None:
        self._app = app
        is_https = public_url is not None and public_url.startswith("https:")
        self._headers = (*SECURITY_HEADERS, STRICT_TRANSPORT_SECURITY) if is_https else SECURITY_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; change what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = {name.lower() for name, _ in message.get("headers", ())}
                added = [header for header in self._headers if header[0] not in sent]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send_with_headers)

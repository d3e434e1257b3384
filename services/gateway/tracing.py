"""The trace of a request. FastAPI makes the server span; this tells the caller its id."""

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_QUIET = frozenset({"/healthz", "/readyz"})

TELEMETRY = TelemetryConfig(
    # Off: spans inside FastAPI's own work, and its log records, which would repeat what callers sent.
    operation_spans=False,
    logs=False,
    metrics=False,
    exclude=lambda scope: scope["path"] in _QUIET,
)


class TraceId:
    """ASGI middleware: `X-Trace-Id` in every answer, so that a caller can name the request it asks about."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                context = trace.get_current_span().get_span_context()
                if context.is_valid:
                    header = (b"x-trace-id", f"{context.trace_id:032x}".encode())
                    message["headers"] = [*message["headers"], header]
            await send(message)

        await self._app(scope, receive, named)

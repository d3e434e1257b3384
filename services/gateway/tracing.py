"""OpenTelemetry settings of FastAPI's server spans, and the response header with the trace id."""

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UNTRACED_PATHS = frozenset({"/healthz", "/readyz"})

TELEMETRY = TelemetryConfig(
    # Off: spans inside FastAPI's own work, and its log records, which would repeat what callers sent.
    operation_spans=False,
    logs=False,
    metrics=False,
    exclude=lambda scope: scope["path"] in _UNTRACED_PATHS,
)


class TraceIdMiddleware:
    """ASGI middleware: sets `X-Trace-Id` (32 hex digits) in every response, by which a caller can report a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; add the header if the request has a valid span."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_trace_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                context = trace.get_current_span().get_span_context()
                if context.is_valid:
                    header = (b"x-trace-id", f"{context.trace_id:032x}".encode())
                    message["headers"] = [*message["headers"], header]
            await send(message)

        await self._app(scope, receive, send_with_trace_id)

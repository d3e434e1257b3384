"""OpenTelemetry settings of FastAPI's server spans, and the response header with the trace id.

FastAPI puts path, query, method and `Host` of the request on its span as they were sent, where keys and texts may
stand by mistake. `_RequestTracer` keeps them away: a span has the route's template, or no path at all.
"""

from typing import Any

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Tracer, TracerProvider
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UNTRACED_PATHS = frozenset({"/healthz", "/readyz"})
_SAFE_ATTRIBUTES = frozenset({"url.scheme", "http.request.method", "network.protocol.version"})
"""Of those FastAPI starts a span with; it adds `http.route`, the status and the type of an error later."""


class _RequestTracer(Tracer):
    """Starts server spans without what the caller sent. FastAPI calls `start_span` alone."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(self, name: str, *args: Any, **options: Any) -> Span:  # noqa: ANN401 - OpenTelemetry's
        attributes = options.get("attributes") or {}
        options["attributes"] = {key: value for key, value in attributes.items() if key in _SAFE_ATTRIBUTES}
        options["context"] = _without_trace_state(options.get("context"))
        return self._tracer.start_span(name, *args, **options)

    def start_as_current_span(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - OpenTelemetry's
        return self._tracer.start_as_current_span(*args, **options)


def _without_trace_state(context: Context | None) -> Context | None:
    """Return the context with the caller's trace and span id, and without its `tracestate`, which is any text."""
    parent = trace.get_current_span(context).get_span_context()
    if not parent.is_valid:
        return context
    plain = SpanContext(parent.trace_id, parent.span_id, parent.is_remote, parent.trace_flags)
    return trace.set_span_in_context(NonRecordingSpan(plain), context)


class _RequestTracerProvider(TracerProvider):
    """The process's tracer provider, for FastAPI."""

    def get_tracer(self, *args: Any, **options: Any) -> Tracer:  # noqa: ANN401 - OpenTelemetry's
        return _RequestTracer(trace.get_tracer_provider().get_tracer(*args, **options))


TELEMETRY = TelemetryConfig(
    tracer_provider=_RequestTracerProvider(),
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

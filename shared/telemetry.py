"""Sets up OpenTelemetry traces and JSON logs of a process, and carries the trace context in message headers.

Export is configured by the standard `OTEL_*` environment; without it nothing is sent. Log lines carry the trace id.
Prompt text appears in neither, unless the standard switch `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true`
puts it on provider spans.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

tracer = trace.get_tracer("everloop")
_propagator = TraceContextTextMapPropagator()
_HIDDEN = "(hidden)"
_MAX_NAME_CHARACTERS = 200
_LIKE_A_KEY = re.compile(
    r"\b(?:hl_|sk[-_]|pk[-_]|rk_|AIza|AKIA|ASIA|gsk_|xai-|r8_|gh[pousr]_|hf_|pplx-|fw_|csk-|Bearer )[\w-]{12}"
    r"|\b(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Z])(?=[A-Za-z0-9]*[a-z])[A-Za-z0-9]{24}"
)
"""How the keys of this platform and of well-known vendors begin, or a run of digits, capitals and small letters."""
_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Of every `LogRecord`; what a record has beside them was given as `extra=`."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; fields given as `extra=` become keys."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON of one record, without a newline."""
        span = trace.get_current_span().get_span_context()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "message": record.getMessage(),
        }
        if span.is_valid:
            line |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        line |= {key: value for key, value in vars(record).items() if key not in _RECORD_ATTRIBUTES}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def setup(service: str, level: str = "INFO") -> None:
    """Set up logs (JSON lines on stdout) and traces of this process, as `service.name` `service`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "uvicorn.access", "pymongo", "nats"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of a header `Baggage` that it cannot read, with the whole of it: any text of a caller.
    logging.getLogger("opentelemetry.baggage").setLevel(logging.CRITICAL)
    exporter = _exporter()
    provider = TracerProvider(
        # Without an exporter spans only carry their ids; recording them would be wasted work.
        sampler=ALWAYS_OFF if exporter is None else None,
        resource=Resource.create({"service.name": service, "service.namespace": "everloop"}),
    )
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _exporter() -> SpanExporter | None:
    name = os.environ.get("OTEL_TRACES_EXPORTER", "")
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if name == "console":
        return ConsoleSpanExporter()
    if name == "otlp" or (endpoint and name != "none"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - loads slowly

        return OTLPSpanExporter()
    return None


def span_text(text: str) -> str:
    """Return a name that a caller or a provider chose, as it may stand on a span: a constant for what is long or looks
    like a key."""
    return _HIDDEN if len(text) > _MAX_NAME_CHARACTERS or _LIKE_A_KEY.search(text) else text


def shutdown() -> None:
    """Export the spans that are left, and stop exporting."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def captures_message_content() -> bool:
    """Return whether the environment allows the text of messages on spans."""
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").lower() in {"true", "1"}


def trace_headers() -> dict[str, str]:
    """Return W3C trace context headers (`traceparent`, `tracestate`) of the current span, to send with a message."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


def trace_id() -> str | None:
    """Return the id of the current trace, 32 hexadecimal digits; None outside any."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def context_from_headers(headers: Mapping[str, str] | None) -> Context:
    """Return the trace context of a sender from the headers of its message."""
    return _propagator.extract(dict(headers or {}))


def span_links(traceparents: Sequence[str | None]) -> list[Link]:
    """Return span links to the requests with these W3C `traceparent` values; repeats and invalid ones are left out."""
    links = []
    for traceparent in {parent for parent in traceparents if parent}:
        context = trace.get_current_span(context_from_headers({"traceparent": traceparent})).get_span_context()
        if context.is_valid:
            links.append(Link(context))
    return links

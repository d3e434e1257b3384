"""Traces and logs. Export is set up by the standard `OTEL_*` environment; without it nothing is sent.

Log lines are JSON with the trace id. Prompt text appears in neither, unless the standard switch
`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true` puts it on provider spans.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Link
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

tracer = trace.get_tracer("everloop")
_propagator = TraceContextTextMapPropagator()
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; fields given as `extra=` become keys."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        span = trace.get_current_span().get_span_context()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "message": record.getMessage(),
        }
        if span.is_valid:
            line |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def start(service: str, level: str = "INFO") -> None:
    """Set up logs and traces of this process."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "uvicorn.access", "pymongo", "nats"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    exporter = _exporter()
    provider = TracerProvider(
        # Without an exporter spans are only carriers of their ids; recording them would be work for nobody.
        sampler=ALWAYS_OFF if exporter is None else None,
        resource=Resource.create({"service.name": service, "service.namespace": "everloop"}),
    )
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _exporter() -> SpanExporter | None:
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "")
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if wanted == "console":
        return ConsoleSpanExporter()
    if wanted == "otlp" or (endpoint and wanted != "none"):
        return OTLPSpanExporter()
    return None


def stop() -> None:
    """Send what is left."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def content_wanted() -> bool:
    """Whether message text may be put on spans."""
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").lower() in {"true", "1"}


def outgoing() -> dict[str, str]:
    """Headers that carry the current span to whom we ask."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier


def incoming(headers: Mapping[str, str] | None) -> Context:
    """The context a sender put into `headers`."""
    return _propagator.extract(dict(headers or {}))


def links(traceparents: Sequence[str | None]) -> list[Link]:
    """Links to the requests that caused the work done now."""
    found = []
    for traceparent in {parent for parent in traceparents if parent}:
        context = trace.get_current_span(incoming({"traceparent": traceparent})).get_span_context()
        if context.is_valid:
            found.append(Link(context))
    return found

"""An OpenTelemetry collector for tests: receives spans over OTLP/HTTP and keeps them."""

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """The fields of a span that tests read; ids are in hexadecimal."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """The trace ids of its links."""


@dataclass
class Collector:
    """The collector's state: parsed spans, and the raw bodies they came in."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def wait_for(self, matches: Callable[[Span], bool], seconds: float = 20.0) -> Span:
        """Return the first matching span, as soon as it has been received. Raises AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for span in list(self.spans):
                if matches(span):
                    return span
            time.sleep(0.05)
        names = sorted({f"{span.service}: {span.name}" for span in self.spans})
        raise AssertionError(f"no such span among {names}")


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def _parse(raw: bytes) -> list[Span]:
    spans = []
    for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
        service = next(item.value.string_value for item in resource.resource.attributes if item.key == "service.name")
        for scope in resource.scope_spans:
            spans += [
                Span(
                    service=service,
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes={item.key: _value(item.value) for item in span.attributes},
                    links=tuple(link.trace_id.hex() for link in span.links),
                )
                for span in scope.spans
            ]
    return spans


def start() -> Collector:
    """Start a collector on a free port, in a thread."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                raw = gzip.decompress(raw)
            collector.raw.append(raw)
            collector.spans.extend(_parse(raw))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return collector

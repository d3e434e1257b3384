"""Log lines, and trace context in message headers."""

import json
import logging
import sys

import pytest
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.trace import TracerProvider

from shared import telemetry
from shared.telemetry import JsonFormatter

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def line(message: str = "done", **extra: object) -> dict[str, object]:
    record = logging.makeLogRecord(
        {"name": "x", "levelname": "WARNING", "levelno": 30, "msg": message, "created": 1_700_000_000.123456} | extra
    )
    text = JsonFormatter("everloop-authz").format(record)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_a_line_is_one_json_object() -> None:
    assert line() == {
        "time": "2023-11-14T22:13:20.123+00:00",
        "level": "WARNING",
        "service": "everloop-authz",
        "message": "done",
    }


def test_extra_fields_become_keys() -> None:
    assert line(messages=3, first=7)["first"] == 7


def test_values_that_are_not_json_are_written_as_text() -> None:
    assert line(error=ValueError("odd"))["error"] == "odd"


def test_a_message_of_several_lines_is_one_line() -> None:
    assert line("first\nsecond")["message"] == "first\nsecond"


def test_an_exception_is_written_with_its_traceback() -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        written = line(exc_info=sys.exc_info())
    assert "ValueError: odd" in str(written["exception"])


def test_a_line_within_a_span_has_its_ids() -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        written = line()
    assert written["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert written["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_trace_headers_carry_the_span_to_another_process() -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("ask") as span:
        headers = telemetry.trace_headers()
    received = telemetry.span_links([headers["traceparent"]])[0].context
    assert received.trace_id == span.get_span_context().trace_id


def test_span_links_are_distinct_and_valid() -> None:
    other = TRACEPARENT.replace("0af7", "1af7")
    assert len(telemetry.span_links([TRACEPARENT, None, TRACEPARENT, other, "", "nonsense"])) == 2


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("", False)]
)
def test_message_content_is_captured_only_when_switched_on(
    monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    assert telemetry.captures_message_content() is wanted


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("gpt-4-1106-preview", True),
        ("ft:gpt-3.5-turbo-0613:my-organisation::8Xy1aB2c", True),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo", True),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3", True),
        (f"owner/name:{'0123456789abcdef' * 4}", True),
        ("search_of_passages", True),
        (f"hl_{'a' * 48}", False),
        ("gpt-4 sk-proj-abcdefghijkl", False),
        ("sk-ant-api03-abcdefghijkl", False),
        ("AKIAIOSFODNN7EXAMPLE", False),
        ("Bearer abcdefghijklm", False),
        ("model/4fJk29dLs0Qw8ErT5yUiO1pA", False),
        ("m" * 201, False),
    ],
)
def test_a_name_on_a_span_is_short_and_like_no_key(name: str, shown: bool) -> None:
    assert telemetry.span_text(name) == (name if shown else "(hidden)")


def test_a_header_that_is_no_baggage_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr("shared.telemetry.trace.set_tracer_provider", lambda _: None)
    telemetry.setup("everloop-gateway")
    W3CBaggagePropagator().extract({"baggage": "a text that nobody else may read"})
    logging.getLogger("everloop").warning("seen")
    out = capsys.readouterr().out
    assert "seen" in out
    assert "nobody else" not in out

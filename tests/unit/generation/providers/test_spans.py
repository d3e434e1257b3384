"""Attributes of the span of a provider call."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.generation.models.request import Choice, ModelRequest, ModelResponse, ResponseDelta
from services.generation.providers import spans
from services.generation.providers.requests import Providers
from shared import telemetry
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig


@pytest.mark.parametrize(
    ("setting", "save", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_content_is_on_the_span_if_the_setting_and_save_allow_it(
    monkeypatch: pytest.MonkeyPatch, setting: bool, save: bool, expected: bool, stream: bool
) -> None:
    exported, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    monkeypatch.setattr(telemetry, "captures_message_content", lambda: setting)
    config = ModelConfig(model="gpt-4", endpoint="chat")
    messages = [ChatMessage(role="user", content="a secret")]
    (call,) = Providers({"OPENAI_API_KEY": "sk-1"}, None).prepare(
        ModelRequest(config, messages=messages, stream=stream, save=save), {}
    )
    with spans.call_span(call) as span:
        if stream:
            span.add_delta(ResponseDelta(text="another secret", finish_reason="stop"))
        else:
            span.set_response(ModelResponse([Choice("another secret", finish_reason="stop")], {}))
    (span_,) = exported.get_finished_spans()
    attributes = dict(span_.attributes or {})
    assert attributes["gen_ai.request.model"] == "gpt-4"
    assert ("gen_ai.input.messages" in attributes, "gen_ai.output.messages" in attributes) == (expected, expected)
    assert ("secret" in str(attributes)) is expected

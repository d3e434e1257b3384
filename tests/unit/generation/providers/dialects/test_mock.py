"""The provider inside this process."""

import json
from typing import Any

import pytest

from services.generation.models.request import ModelRequest
from services.generation.providers.base import StubResponse
from services.generation.providers.dialects import mock, openai
from shared.contracts.chat import ChatMessage, ResponseFormat
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid


def config(**fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"provider": "mock", "model": "mock", "endpoint": "chat"} | fields)


def answer(text: str = "hello big world", *, config_: ModelConfig | None = None, **fields: Any) -> StubResponse:
    messages = [ChatMessage(role="user", content=text), ChatMessage(role="assistant", content="before")]
    return mock.answer(openai.body(ModelRequest(config_ or config(), **{"messages": messages} | fields)))


def payload_of(stub: StubResponse) -> Any:
    return stub.payload["choices"][0]["message"]["content"]


def test_it_repeats_the_last_user_message_or_the_prompt() -> None:
    assert payload_of(answer()) == "hello big world"
    request = ModelRequest(config(endpoint="complete"), prompt="once upon")
    assert mock.answer(openai.body(request)).payload["choices"][0]["text"] == "once upon"


def test_the_same_request_gets_the_same_answer() -> None:
    assert answer() == answer()
    assert answer().payload["id"] != answer("other").payload["id"]


@pytest.mark.parametrize(
    ("steered", "expected"),
    [
        ({"model": "mock-error-429"}, {"status": 429}),
        ({"other": {"fail": 503}}, {"status": 503}),
        ({"model": "mock-slow-2.5"}, {"delay_seconds": 2.5}),
        ({"other": {"delay_seconds": 1, "chunk_delay_seconds": 2}}, {"delay_seconds": 1}),
        ({"model": "mock-broken"}, {"truncated": True}),
        ({"other": {"break": True}}, {"truncated": True}),
    ],
)
def test_options_are_in_the_model_name_or_in_other(steered: dict[str, Any], expected: dict[str, Any]) -> None:
    stub = answer(config_=config(**steered))
    assert {key: getattr(stub, key) for key in expected} == expected


def test_tool_calls_name_the_tools_of_the_config() -> None:
    stub = answer(config_=config(model="mock-tools-3", tools=[{"name": "f"}, {"name": "g"}]))
    choice = stub.payload["choices"][0]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["f", "g", "f"]
    assert choice["finish_reason"] == "tool_calls"


def test_output_usage_and_length() -> None:
    other = {"output": "one two three", "prompt_tokens": 7, "completion_tokens": 9}
    stub = answer(config_=config(other=other, max_tokens=2), samples=2)
    assert [choice["message"]["content"] for choice in stub.payload["choices"]] == ["one two", "one two"]
    assert stub.payload["choices"][0]["finish_reason"] == "length"
    assert stub.payload["usage"] == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


def test_json_mode_requires_the_word_json_as_openai_does() -> None:
    response_format = ResponseFormat(type="json_object")
    refused = answer(response_format=response_format)
    assert refused.status == 400
    assert "must contain the word 'json'" in refused.payload["error"]["message"]
    assert json.loads(payload_of(answer("in JSON please", response_format=response_format))) == {
        "echo": "in JSON please"
    }


@pytest.mark.parametrize(("chunks", "texts"), [(None, ["one", " two", " three"]), (2, ["one two", " three"])])
def test_a_stream_has_the_same_text(chunks: int | None, texts: list[str]) -> None:
    other = {"chunks": chunks} if chunks else {}
    stub = answer("one two three", config_=config(other=other), stream=True)
    events = list(stub.events or ())
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert [delta["content"] for delta in deltas if "content" in delta] == texts
    assert events[-1]["usage"]["total_tokens"] == 6
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "mock-error-200"},
        {"model": "mock-slow-1.2.3"},
        {"model": "mock-slow-999999"},
        {"model": "mock-tools-999"},
        {"other": {"fail": "soon"}},
        {"other": {"delay_seconds": -1}},
        {"other": {"tool_calls": 1.5}},
        {"other": {"output": 7}},
        {"other": {"chunks": 0}},
        {"other": {"prompt_tokens": -1}},
    ],
)
def test_options_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="mock provider"):
        mock.check(config(**fields))
    mock.check(config(other={"unknown": object}))


def test_any_number_of_tokens_may_be_asked_for() -> None:
    assert answer(config_=config(max_tokens=10**30)).payload["choices"][0]["finish_reason"] == "stop"

"""The features a request uses, and the requests no provider could answer."""

from dataclasses import replace
from typing import Any

import pytest

from services.generation.models.features import Feature, check_features, required_features, validate_request
from services.generation.models.request import ModelRequest
from shared.contracts.chat import ChatMessage, FunctionChoice, ResponseFormat
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(*messages: dict[str, Any], **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "m", "endpoint": "chat"} | fields)
    return ModelRequest(config, [ChatMessage.model_validate(message) for message in messages])


def test_a_plain_request_needs_nothing() -> None:
    assert required_features(chat({"role": "user", "content": "hi"})) == []


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_call": CALL["function"]},
        {"role": "tool", "content": "1", "tool_call_id": "c"},
    ],
)
def test_messages_with_tool_calls_need_tools_even_if_the_config_has_none(message: dict[str, Any]) -> None:
    assert required_features(chat(message)) == ["tools"]
    with pytest.raises(Invalid, match="X cannot do tools: remove tools from the config, and what was called"):
        check_features(chat(message), frozenset({"tools"}), "X")


def test_a_supported_feature_is_not_refused() -> None:
    check_features(chat(tools=[{"name": "f"}]), frozenset({"images"}), "X")


@pytest.mark.parametrize("url", ["ftp://example.test/a.png", "file:///etc/passwd", "a.png", ""])
def test_an_image_without_a_usable_address_is_refused(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(Invalid, match=r"image_url\.url"):
        validate_request(chat({"role": "user", "content": [part]}))


@pytest.mark.parametrize(
    "url", ["https://example.test/a.png", "HTTP://example.test/a.png", "DATA:image/png;base64,AAAA"]
)
def test_an_image_with_a_usable_address_is_accepted(url: str) -> None:
    validate_request(chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}))


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
TOOLS = [{"name": "f"}, {"name": "g"}]
CHOICE = FunctionChoice.model_validate({"type": "function", "function": {"name": "g"}})
SCHEMA = ResponseFormat.model_validate({"type": "json_schema", "json_schema": {"name": "s", "schema": {}}})


def completion(**fields: Any) -> ModelRequest:
    own = {name: fields.pop(name) for name in ("suffix", "logprobs", "seed", "response_format") if name in fields}
    return ModelRequest(ModelConfig.model_validate({"model": "m"} | fields), prompt="Once", **own)


@pytest.mark.parametrize(
    ("request_", "features"),
    [
        (chat(tools=TOOLS), ["tools"]),
        (replace(chat(tools=TOOLS), tool_choice="auto"), ["tools"]),
        (replace(chat(tools=TOOLS), tool_choice="required"), ["tools", "forced tools"]),
        (replace(chat(tools=TOOLS), tool_choice=CHOICE), ["tools", "forced tools"]),
        (chat({"role": "user", "content": [IMAGE]}), ["images"]),
        (chat({"role": "system", "content": [IMAGE]}), ["images", "images in the system message"]),
        (chat({"role": "user", "content": [{"type": "text", "text": "x"}]}), []),
        (replace(chat(), response_format=ResponseFormat(type="json_object")), ["JSON mode"]),
        (replace(chat(), response_format=SCHEMA), ["JSON schemas"]),
        (replace(chat(), seed=0), ["seed"]),
        (completion(logprobs=0), ["logprobs"]),
        (completion(suffix=""), ["suffix"]),
        (chat(presence_penalty=0.1), ["penalties"]),
        (chat(frequency_penalty=-0.1), ["penalties"]),
        (chat(stop="END"), ["stop sequences"]),
        (chat(stop=[]), []),
    ],
)
def test_a_feature_is_required_by_the_field_that_uses_it(request_: ModelRequest, features: list[Feature]) -> None:
    assert required_features(request_) == features


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (replace(chat(), tool_choice="required"), "tool_choice is 'required', but the config has no tools"),
        (replace(chat(), tool_choice=CHOICE), "tool_choice names 'g', .* it has none"),
        (replace(chat(tools=TOOLS[:1]), tool_choice=CHOICE), "tool_choice names 'g', .*: f\\."),
        (replace(chat(), response_format=ResponseFormat(type="json_schema")), "'json_schema' needs json_schema"),
        (completion(tools=TOOLS), "A completion cannot do tools"),
        (completion(response_format=ResponseFormat(type="json_object")), "A completion cannot do JSON mode"),
        (completion(response_format=SCHEMA), "A completion cannot do JSON schemas"),
    ],
)
def test_a_request_no_provider_could_answer_is_refused_by_its_field(request_: ModelRequest, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        validate_request(request_)


@pytest.mark.parametrize(
    "request_",
    [
        replace(chat(tools=TOOLS), tool_choice="required"),
        replace(chat(tools=TOOLS), tool_choice=CHOICE),
        replace(chat(), tool_choice="none"),
        replace(chat(), response_format=SCHEMA),
        completion(suffix="end", logprobs=1, seed=1),
    ],
)
def test_a_consistent_request_is_accepted(request_: ModelRequest) -> None:
    validate_request(request_)


def test_the_first_feature_that_is_lacking_is_named_with_its_remedy() -> None:
    with pytest.raises(Invalid, match=r"^X cannot do images: send text only, or choose another model\.$"):
        check_features(
            chat({"role": "user", "content": [IMAGE]}, stop="x"), frozenset({"images", "stop sequences"}), "X"
        )

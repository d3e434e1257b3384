"""The features a request uses, and the requests no provider could answer."""

from typing import Any

import pytest

from services.generation.models.features import check_features, required_features, validate_request
from services.generation.models.request import ModelRequest
from shared.contracts.chat import ChatMessage
from shared.contracts.projects import ModelConfig
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

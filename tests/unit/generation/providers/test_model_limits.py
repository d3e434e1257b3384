"""What the catalogue of models means for the calls that are prepared."""

from typing import Any

import pytest

from services.generation.models.request import ModelRequest
from services.generation.providers.requests import LOCAL_MODEL, Providers
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

PROVIDERS = Providers({"OPENAI_API_KEY": "sk-own"}, "http://127.0.0.1:9/v1")


def request(kind: str, **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "gpt-4"} | fields)
    if kind == "chat":
        return ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
    return ModelRequest(config, prompt="once")


@pytest.mark.parametrize(
    ("request_", "needed"),
    [
        (request("chat"), False),
        (request("complete"), False),  # it becomes a chat
        (request("complete", model="gpt-3.5-turbo-instruct"), True),
        (request("complete", model="gpt-3.5-turbo-instruct", max_tokens=5), False),
        (request("complete", model=LOCAL_MODEL), True),
        (request("chat", model=LOCAL_MODEL), False),
        (request("complete", model="my-own-model"), False),
        (request("chat", provider="groq", model="llama-3.1-8b-instant"), False),
    ],
)
def test_a_token_budget_is_worked_out_only_where_it_is_sent(request_: ModelRequest, *, needed: bool) -> None:
    assert PROVIDERS.needs_token_budget(request_) is needed


def test_an_impossible_request_is_refused_before_a_missing_key() -> None:
    with pytest.raises(Invalid, match="'gpt-4' cannot do JSON mode"):
        Providers({}, None).prepare(
            ModelRequest(**vars(request("chat")) | {"response_format": _json_mode()}),
            {},
        )


def _json_mode() -> Any:
    return ModelConfig.model_validate({"model": "m", "response_format": {"type": "json_object"}}).response_format


def test_the_local_model_completes_and_chats() -> None:
    (call,) = PROVIDERS.prepare(request("complete", model=LOCAL_MODEL), {})
    assert call.url == "http://127.0.0.1:9/v1/completions"
    (call,) = PROVIDERS.prepare(request("chat", model=LOCAL_MODEL), {})
    assert call.url == "http://127.0.0.1:9/v1/chat/completions"

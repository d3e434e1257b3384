"""Unsupported requests are refused by the name of the model; the tokens left for an answer are counted."""

from typing import Any

import pytest

from services.generation.models import check_model_supports, count_remaining_output_tokens, tokens
from services.generation.models.request import ModelRequest
from shared.contracts.chat import ChatMessage, ResponseFormat
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

PICTURE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
TOOLS = [{"name": "f"}]


def chat(model: str, *contents: Any, provider: str = "openai", role: str = "user", **fields: Any) -> ModelRequest:
    own = {"response_format": fields.pop("response_format", None)}
    config = ModelConfig.model_validate({"provider": provider, "model": model, "endpoint": "chat"} | fields)
    messages = [ChatMessage.model_validate({"role": role, "content": content}) for content in contents or ("Hi",)]
    return ModelRequest(config=config, messages=messages, **own)


def completion(model: str, prompt: str = "Once", provider: str = "openai", **fields: Any) -> ModelRequest:
    config = ModelConfig(provider=provider, model=model, endpoint="complete")
    return ModelRequest(config=config, prompt=prompt, **fields)


JSON_MODE = ResponseFormat(type="json_object")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (chat("gpt-3.5-turbo", PICTURE), "The model 'gpt-3.5-turbo' cannot do images: send text only"),
        (chat("gpt-4-0613", PICTURE), "'gpt-4-0613' cannot do images"),
        (chat("gpt-4-vision-preview", PICTURE, tools=TOOLS), "'gpt-4-vision-preview' cannot do tools"),
        (chat("gpt-4-vision-preview", response_format=JSON_MODE), "'gpt-4-vision-preview' cannot do JSON mode"),
        (chat("gpt-4-vision-preview", PICTURE, role="system"), "cannot do images in the system message"),
        (chat("claude-2.1", provider="anthropic", tools=TOOLS), "'claude-2.1' cannot do tools"),
        (chat("us.anthropic.claude-v2", provider="bedrock", tools=TOOLS), "cannot do tools"),
        (chat("gpt-3.5-turbo-instruct"), "'gpt-3.5-turbo-instruct' cannot chat"),
        (completion("davinci-002", suffix="end"), "'davinci-002' cannot do suffix"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(request_: ModelRequest, said: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_model_supports(request_)
    assert said in refusal.value.message


@pytest.mark.parametrize(
    "request_",
    [
        chat("gpt-4-vision-preview", PICTURE),
        chat("gpt-4-1106-preview", tools=TOOLS, response_format=JSON_MODE, seed=1),
        chat("gpt-3.5-turbo-1106", tools=TOOLS, response_format=JSON_MODE, seed=1),
        chat("gpt-4o", PICTURE, tools=TOOLS),
        chat("my-own-model", PICTURE, tools=TOOLS, response_format=JSON_MODE),
        chat("gpt-4", PICTURE, provider="openai_azure", tools=TOOLS),
        chat("gpt-4", PICTURE, provider="mock"),
        completion("gpt-3.5-turbo-instruct", suffix="end"),
    ],
)
def test_what_a_model_supports_and_an_unknown_model_pass(request_: ModelRequest) -> None:
    check_model_supports(request_)


def test_a_prompt_of_150000_tokens_is_accepted_and_the_rest_of_200000_remains() -> None:
    """Row 47."""
    long = chat("claude-2.1", " word" * 150_000, provider="anthropic")
    check_model_supports(long)
    assert tokens.count_prompt_tokens(long) > 150_000
    assert count_remaining_output_tokens(long) == 4_096
    longer = chat("claude-2.1", " word" * 198_000, provider="anthropic")
    assert count_remaining_output_tokens(longer) == 200_000 - tokens.count_prompt_tokens(longer)


def test_remaining_tokens_are_at_most_the_longest_answer_and_at_least_one() -> None:
    assert count_remaining_output_tokens(chat("claude-2.1", provider="anthropic")) == 4_096
    assert count_remaining_output_tokens(completion("gpt-3.5-turbo-instruct", "one two three")) == 4_093
    assert count_remaining_output_tokens(completion("gpt-3.5-turbo-instruct", "word " * 5_000)) == 1
    assert count_remaining_output_tokens(completion("smollm2-135m-instruct", "one two three")) == 4_093
    assert count_remaining_output_tokens(completion("my-own-model")) is None
    assert count_remaining_output_tokens(completion("claude-haiku-5-5", provider="anthropic")) == 128_000


def test_a_prompt_that_is_short_enough_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "count_prompt_tokens", lambda _: pytest.fail("counted"))
    assert count_remaining_output_tokens(chat("claude-2.1", "x" * 100_000, provider="anthropic")) == 4_096

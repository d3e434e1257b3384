"""Token counts compared with those OpenAI publishes; any text is counted, in bounded time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models import tokens
from services.generation.models.request import Choice, ModelRequest
from shared.contracts.chat import ChatMessage, FunctionCall, ToolCall, Usage
from shared.contracts.generation.projects import ModelConfig

COOKBOOK = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain "
        "English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased "
        "leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]
"""How_to_count_tokens_with_tiktoken.ipynb of OpenAI's cookbook: its API counted 129 for these."""
DATA_URL = "data:image/png;base64," + "A" * 400_000


def chat(model: str, *messages: dict[str, Any], **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": model, "endpoint": "chat"} | fields)
    return ModelRequest(config=config, messages=[ChatMessage.model_validate(message) for message in messages])


def completion(model: str, prompt: str) -> ModelRequest:
    return ModelRequest(config=ModelConfig(model=model), prompt=prompt)


@pytest.mark.parametrize("model", ["gpt-4", "gpt-3.5-turbo-0613", "gpt-4-0314"])
def test_the_cookbooks_conversation_has_the_tokens_openai_counted(model: str) -> None:
    assert tokens.count_prompt_tokens(chat(model, *COOKBOOK)) == 129


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("tiktoken is great!", 6),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 9),
        ("", 0),
    ],
)
def test_the_cookbooks_examples_in_cl100k(text: str, count: int) -> None:
    assert tokens.count_prompt_tokens(completion("davinci-002", text)) == count


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "o3-mini", "gpt-5", "prod-gpt-4o", "openai/gpt-oss-20b"])
def test_newer_models_count_in_o200k(model: str) -> None:
    assert tokens.count_prompt_tokens(completion(model, "お誕生日おめでとう")) == 8


@pytest.mark.parametrize("model", ["gpt-4", "gpt-35-turbo", "claude-2.1", "command", "demo1"])
def test_others_count_in_cl100k(model: str) -> None:
    assert tokens.count_prompt_tokens(completion(model, "お誕生日おめでとう")) == 9


def test_an_image_is_not_counted_as_text() -> None:
    url = {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}
    seen = chat("gpt-4-vision-preview", {"role": "user", "content": [{"type": "text", "text": "What?"}, url]})
    blind = chat("gpt-4-vision-preview", {"role": "user", "content": "What?"})
    assert tokens.count_prompt_tokens(seen) == tokens.count_prompt_tokens(blind) + 85


def test_tools_and_earlier_calls_are_part_of_the_prompt() -> None:
    call = {"id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    plain = chat("gpt-4", {"role": "assistant", "content": ""})
    calling = chat("gpt-4", {"role": "assistant", "content": "", "tool_calls": [call]})
    assert tokens.count_prompt_tokens(calling) > tokens.count_prompt_tokens(plain)
    equipped = chat("gpt-4", {"role": "assistant", "content": ""}, tools=[{"name": "weather", "description": "Rain?"}])
    assert tokens.count_prompt_tokens(equipped) > tokens.count_prompt_tokens(plain) + 12


def test_an_answer_is_its_text_and_its_calls() -> None:
    call = ToolCall(id="call_1", function=FunctionCall(name="tiktoken is great!", arguments="2 + 2 = 4"))
    bare = ToolCall(id="call_2", function=FunctionCall(name="tiktoken is great!"))
    assert tokens.count_choice_tokens("gpt-4", Choice("tiktoken is great!", [call, bare])) == 6 + 6 + 7 + 6
    usage = tokens.count_usage(completion("gpt-4", "2 + 2 = 4"), [Choice("tiktoken is great!"), Choice("2 + 2 = 4")])
    assert (usage.prompt_tokens, usage.generation_tokens, usage.total_tokens) == (7, 13, 20)
    assert tokens.count_usage(completion("gpt-4", "2 + 2 = 4"), []).total_tokens == 7


@pytest.mark.parametrize(("total", "told"), [(50, (7, 43)), (12, (6, 6)), (3, (0, 3))])
def test_a_total_alone_is_divided_into_the_prompt_as_counted_and_the_rest(total: int, told: tuple[int, int]) -> None:
    usage = tokens.count_usage(
        completion("gpt-4", "2 + 2 = 4"), [Choice("tiktoken is great!")], Usage(total_tokens=total)
    )
    assert (usage.prompt_tokens, usage.generation_tokens, usage.total_tokens) == (*told, total)


def test_told_cached_tokens_are_kept_beside_counted_ones() -> None:
    told = Usage(prompt_tokens=9, cached_tokens=4, total_tokens=9)
    usage = tokens.count_usage(completion("gpt-4", "2 + 2 = 4"), [Choice("tiktoken is great!")], told)
    assert usage == Usage(prompt_tokens=9, generation_tokens=6, total_tokens=15, cached_tokens=4)


@pytest.mark.parametrize("letter", ["a", " ", "\n", "é", "世", "1", "!", "\x00", "x y "])
@pytest.mark.parametrize("model", ["gpt-4", "gpt-4o"])
def test_two_megabytes_of_one_letter_are_counted(letter: str, model: str) -> None:
    text = (letter * 2_000_000)[:2_000_000]
    count = tokens.count_prompt_tokens(completion(model, text))
    assert 0 < count <= tokens.prompt_tokens_upper_bound(completion(model, text))


@given(st.text(alphabet=st.characters()))
def test_any_text_is_counted_and_never_above_the_upper_bound(text: str) -> None:
    request = chat("gpt-4", {"role": "user", "content": text, "name": text or None})
    assert 0 < tokens.count_prompt_tokens(request) <= tokens.prompt_tokens_upper_bound(request)


def test_half_a_surrogate_pair_and_a_special_token_are_text() -> None:
    assert tokens.count_prompt_tokens(completion("gpt-4", "a\ud800b")) > 0
    assert tokens.count_prompt_tokens(completion("gpt-4", "<|endoftext|>")) > 1

"""Fields left out or renamed for servers that differ from OpenAI."""

from typing import Any

import pytest

from services.generation.models.request import Json, ModelRequest
from services.generation.providers.dialects import openai, quirks
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.projects import ModelConfig

SAMPLING = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}


def body(model: str = "m", **fields: Any) -> Json:
    """Return the body before the quirk is applied."""
    more = {name: fields.pop(name) for name in ("seed", "user", "stream", "logprobs", "tool_choice") if name in fields}
    messages = fields.pop("messages", [ChatMessage(role="user", content="hi")])
    config = ModelConfig.model_validate({"model": model, "endpoint": "chat"} | fields)
    return openai.body(ModelRequest(config, messages, **more))


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o1", True),
        ("o3-mini", True),
        ("gpt-5", True),
        ("gpt-5.1-mini", True),
        ("gpt-6-sol", True),
        ("ft:o4-mini-2025-04-16:org::1", True),
        ("team-gpt-5", True),
        ("gpt-4o", False),
        ("gpt-4.1", False),
        ("gpt-35-turbo", False),
        ("gpt-3.5-turbo", False),
        ("chatgpt-4o-latest", False),
    ],
)
def test_reasoning_models_are_sent_no_defaults(model: str, reasons: bool) -> None:
    sent = quirks.reasoning_models(body(model, max_tokens=9))
    assert (SAMPLING.keys() & sent.keys() == set()) is reasons
    assert sent.get("max_completion_tokens" if reasons else "max_tokens") == 9
    assert ("max_tokens" in sent) is not reasons


def test_reasoning_models_are_sent_values_that_are_not_defaults() -> None:
    sent = quirks.reasoning_models(body("o3", temperature=0.2, presence_penalty=1, other={"max_completion_tokens": 5}))
    assert (sent["temperature"], sent["presence_penalty"], sent["max_completion_tokens"]) == (0.2, 1, 5)
    assert "top_p" not in sent


def test_other_wins_over_max_tokens() -> None:
    assert (
        quirks.reasoning_models(body("o3", max_tokens=9, other={"max_completion_tokens": 5}))["max_completion_tokens"]
        == 5
    )


def test_a_completion_is_not_changed() -> None:
    sent = openai.body(ModelRequest(ModelConfig(model="o3", max_tokens=9), prompt="once"))
    assert quirks.reasoning_models(sent) == sent


def test_penalties_of_zero_are_left_out() -> None:
    assert not {"presence_penalty", "frequency_penalty"} & quirks.without_zero_penalties(body()).keys()
    assert quirks.without_zero_penalties(body(presence_penalty=0.5))["presence_penalty"] == 0.5


def test_mistral() -> None:
    sent = quirks.mistral(body(seed=0, user="u", stream=True, tools=[{"name": "f"}], tool_choice="required"))
    assert sent["random_seed"] == 0
    assert sent["tool_choice"] == "any"
    assert not {"seed", "user", "stream_options"} & sent.keys()
    assert "random_seed" not in quirks.mistral(body())
    assert quirks.mistral(body(tools=[{"name": "f"}]))["tool_choice"] == "auto"


def test_together_gets_the_number_of_log_probabilities() -> None:
    sent = quirks.together(body(logprobs=3))
    assert sent["logprobs"] == 3
    assert "top_logprobs" not in sent
    assert quirks.together(body()) == body()


def test_perplexity() -> None:
    sent = quirks.perplexity(body(user="u", stream=True))
    assert not {"user", "stream_options", "presence_penalty", "frequency_penalty"} & sent.keys()

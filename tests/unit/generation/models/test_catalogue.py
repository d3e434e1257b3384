"""The model catalogue: its data are valid, and every name a provider accepts finds its model."""

from collections import Counter
from datetime import date
from typing import get_args

import pytest

from services.generation.models import MODELS, Costs, Model, Price, calculate_costs, find_model
from services.generation.models.features import Feature
from shared.contracts.chat import Usage

ALL = list(dict.fromkeys(model for rows in MODELS.values() for model in rows.values()))


def usage(prompt: int, generated: int) -> Usage:
    return Usage(prompt_tokens=prompt, generation_tokens=generated, total_tokens=prompt + generated)


def test_no_name_stands_for_two_models() -> None:
    names = Counter((model.provider, name) for model in ALL for name in (model.name, *model.aliases))
    assert [name for name, times in names.items() if times > 1] == []
    assert len(MODELS) > 8


@pytest.mark.parametrize("model", ALL, ids=lambda model: f"{model.provider}/{model.name}")
def test_a_row_is_well_formed(model: Model) -> None:
    assert model.name == model.name.lower()
    assert model.kind in {"chat", "complete", "any"}
    assert model.lacks <= set(get_args(Feature))
    assert model.source.startswith("https://")
    assert date(2023, 11, 1) <= model.checked
    numbers = (model.context_tokens, model.output_tokens, model.long_prompt_tokens)
    assert all(number > 0 for number in numbers if number is not None)
    if model.context_tokens and model.output_tokens:
        assert model.output_tokens <= model.context_tokens
    for price in (model.price, model.long_price):
        if price:
            assert 0 <= price.prompt <= price.output <= 600
            assert price.cached is None or 0 < price.cached < price.prompt
            assert price.cache_write is None or price.prompt < price.cache_write <= 2 * price.prompt
    assert (model.long_price is None) == (model.long_prompt_tokens is None)
    if model.replacement:
        assert find_model(model.provider, model.replacement)
    assert find_model(model.provider, model.name) is model


@pytest.mark.parametrize(
    ("provider", "name", "row"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "GPT-4o", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("openai", "gpt-4-0613", "gpt-4"),
        ("openai", "gpt-4-1106-vision-preview", "gpt-4-vision-preview"),
        ("openai", "gpt-3.5-turbo-instruct-0914", "gpt-3.5-turbo-instruct"),
        ("openai", "ft:gpt-3.5-turbo-0613:acme::8xyz", "ft:gpt-3.5-turbo"),
        ("openai_azure", "gpt-35-turbo-16k", "gpt-3.5-turbo-16k"),
        ("openai_azure", "gpt-4o", "gpt-4o"),
        ("openai_azure", "support_gpt-4o-mini", "gpt-4o-mini"),
        ("openai_azure", "team-a-gpt-4-32k", "gpt-4-32k"),
        ("anthropic", "claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4"),
        ("bedrock", "anthropic.claude-v2:1", "anthropic.claude-v2:1"),
        ("bedrock", "anthropic.claude-v2:1:200k", "anthropic.claude-v2:1"),
        ("bedrock", "us.anthropic.claude-3-sonnet-20240229-v1:0", "anthropic.claude-3-sonnet"),
        ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", "global.anthropic.claude-haiku-4-5"),
        (
            "bedrock",
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
            "anthropic.claude-haiku-4-5",
        ),
        ("google", "gemini-2.5-pro-preview-05-06", "gemini-2.5-pro"),
        ("google", "gemini-1.5-flash-8b-001", "gemini-1.5-flash-8b"),
        ("cohere", "command-r-plus-04-2024", "command-r-plus"),
    ],
)
def test_a_model_is_found_by_any_of_its_names(provider: str, name: str, row: str) -> None:
    found = find_model(provider, name)
    assert found is not None
    assert found.name == row


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "gpt-5-pro"),
        ("openai", "gpt-4.1-future"),
        ("openai", "gpt-4-64k"),
        ("openai", "ft:my-own:acme::8xyz"),
        ("openai", "my-gpt-4o"),
        ("openai_azure", "production"),
        ("openai_azure", "mygpt-4o"),
        ("anthropic", "claude-opus-4-99"),
        ("mock", "gpt-4o"),
        ("nobody", "gpt-4o"),
        ("openai", ""),
    ],
)
def test_another_size_or_version_is_another_model(provider: str, name: str) -> None:
    assert find_model(provider, name) is None


def test_a_fine_tune_without_a_price_of_its_own_has_none() -> None:
    found = find_model("openai", "ft:gpt-4.1-2025-04-14:acme::8xyz")
    assert found is not None
    assert (found.name, found.context_tokens, found.price) == ("gpt-4.1", 1_047_576, None)


def test_claude_2_1_has_200000_tokens_and_no_tools() -> None:
    found = find_model("anthropic", "claude-2.1")
    assert found is not None
    assert found.context_tokens == 200_000
    assert found.lacks >= {"tools", "images"}


@pytest.mark.parametrize("name", ["gpt-4-1106-preview", "gpt-3.5-turbo-1106"])
def test_the_turbo_models_of_november_2023_support_tools_json_mode_and_seed(name: str) -> None:
    found = find_model("openai", name)
    assert found is not None
    assert not found.lacks & {"tools", "forced tools", "JSON mode", "seed"}


def test_costs_are_dollars_by_the_price_of_a_million() -> None:
    assert calculate_costs("openai", "gpt-4-1106-preview", usage(1000, 500)) == Costs(0.01, 0.015)
    assert calculate_costs("anthropic", "claude-2.1", usage(1_000_000, 0)) == Costs(8.0, 0.0)
    assert calculate_costs("openai", "smollm2-135m-instruct", usage(7, 7)) == Costs(0, 0)


def test_a_long_prompt_has_another_price_for_the_whole_call() -> None:
    model = find_model("google", "gemini-2.5-pro")
    assert model is not None
    assert (model.price, model.long_price) == (Price(1.25, 10, 0.125), Price(2.5, 15, 0.25))
    assert calculate_costs("google", "gemini-2.5-pro", usage(200_000, 1000)) == Costs(0.25, 0.01)
    assert calculate_costs("google", "gemini-2.5-pro", usage(400_000, 1000)) == Costs(1.0, 0.015)


def test_cached_tokens_of_the_prompt_cost_less_and_those_written_to_the_cache_more() -> None:
    used = Usage(prompt_tokens=1_000_000, cached_tokens=600_000, cache_write_tokens=100_000, total_tokens=1_000_000)
    costs = calculate_costs("anthropic", "claude-sonnet-4-6", used)
    assert costs is not None
    assert costs.prompt == pytest.approx(0.3 * 3 + 0.6 * 0.3 + 0.1 * 3.75)
    longer = calculate_costs("google", "gemini-2.5-pro", used.model_copy(update={"cache_write_tokens": 0}))
    assert longer is not None
    assert longer.prompt == pytest.approx(0.4 * 2.5 + 0.6 * 0.25)


def test_cached_tokens_cost_what_others_do_if_their_price_is_not_known() -> None:
    used = Usage(prompt_tokens=1_000, cached_tokens=900, total_tokens=1_000)
    assert calculate_costs("openai", "gpt-4-1106-preview", used) == Costs(0.01, 0)


@pytest.mark.parametrize(("provider", "name"), [("openai", "no-such"), ("anthropic", "claude-haiku-5-5")])
def test_an_unknown_price_is_not_zero(provider: str, name: str) -> None:
    assert calculate_costs(provider, name, usage(10, 10)) is None

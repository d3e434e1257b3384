"""What a call cost stands on its logs, however it ended; tokens nobody told are counted."""

from datetime import UTC, datetime

import pytest

from services.generation import tokens
from services.generation.attempt import ABANDONED, Attempt
from services.generation.completion import Choice, Completion, CompletionRequest
from services.generation.providers.calls import Providers
from shared.contracts.chat import ChatMessage, Usage
from shared.contracts.generations import Chat
from shared.contracts.projects import ConfigVersion, ModelConfig, Project, ProjectRef, Resolved
from shared.errors import Invalid, Problem, RateLimited, Unavailable, UpstreamFailed

MESSAGES = [ChatMessage(role="user", content="tiktoken is great!")]
PROMPT_TOKENS = 3 + 3 + 1 + 6
"""The answer's start, a message, its role, its text."""
PRICE = (10, 30)
"""USD per million of gpt-4-1106-preview."""


def attempt(samples: int = 1, model: str = "gpt-4-1106-preview", *, sent: bool = True) -> Attempt:
    now = datetime.now(UTC)
    config = ModelConfig(model=model, endpoint="chat")
    log_ids = [f"data_{index}" for index in range(samples)]
    command = Chat(organisation="tm_1", project=ProjectRef(name="p"), log_ids=log_ids, messages=MESSAGES)
    project = Project(id="pr_1", name="p", created_at=now, updated_at=now)
    version = ConfigVersion(id="config_1", project_id="pr_1", config=config, created_at=now)
    made = Attempt(command, Resolved(project=project, version=version), config, None)
    made.request = CompletionRequest(config=config, messages=MESSAGES, samples=samples)
    if sent:
        (call,) = Providers({"OPENAI_API_KEY": "sk-1"}, None).calls(made.request, {})
        made.sending(0, call)
    return made


def completion(*texts: str, usage: Usage | None = None) -> Completion:
    return Completion([Choice(text, finish_reason="stop") for text in texts], {}, usage)


async def test_what_the_provider_told_is_charged_and_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "used", lambda *_: pytest.fail("counted"))
    done = attempt()
    done.completed(0, completion("hi", usage=Usage(prompt_tokens=12, generation_tokens=5, total_tokens=17)), 0.0)
    (log,) = await done.records()
    assert (log.prompt_cost, log.output_cost) == (12 * PRICE[0] / 1e6, 5 * PRICE[1] / 1e6)


async def test_what_nobody_told_is_counted_once_for_all_samples_of_a_request() -> None:
    done = attempt(samples=2)
    done.completed(0, completion("tiktoken is great!", "2 + 2 = 4"), 0.0)
    first, second = await done.records()
    assert (first.prompt_tokens, first.output_tokens, first.tokens) == (PROMPT_TOKENS, 13, PROMPT_TOKENS + 13)
    assert first.output_cost == 13 * PRICE[1] / 1e6
    assert (second.tokens, second.prompt_cost, second.output_cost) == (None, None, None)
    assert done.generation().usage.total_tokens == PROMPT_TOKENS + 13


async def test_a_call_its_caller_left_costs_its_prompt() -> None:
    left = attempt()
    left.stopped(ABANDONED)
    (log,) = await left.records()
    assert (log.error, log.prompt_tokens, log.output_tokens) == (ABANDONED, PROMPT_TOKENS, 0)
    assert (log.prompt_cost, log.output_cost) == (PROMPT_TOKENS * PRICE[0] / 1e6, 0)


@pytest.mark.parametrize(
    ("problem", "counted"),
    [(UpstreamFailed("x"), PROMPT_TOKENS), (Invalid("x"), None), (RateLimited("x"), None), (Unavailable("x"), None)],
)
async def test_a_failed_call_counts_if_it_may_have_cost_something(problem: Problem, counted: int | None) -> None:
    failed = attempt()
    failed.failed(problem)
    (log,) = await failed.records()
    assert log.prompt_tokens == counted
    assert (log.prompt_cost is None) == (counted is None)


async def test_what_was_never_sent_counts_nothing() -> None:
    refused = attempt(sent=False)
    refused.failed(Invalid("no such input"))
    (log,) = await refused.records()
    assert (log.tokens, log.prompt_cost) == (None, None)


async def test_a_model_without_a_known_price_has_tokens_and_no_costs() -> None:
    done = attempt(model="my-own-model")
    done.completed(0, completion("hi"), 0.0)
    (log,) = await done.records()
    assert log.tokens
    assert (log.prompt_cost, log.output_cost) == (None, None)

"""What a call cost stands on its logs, however it ended; tokens nobody told are counted."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.generation.completions.answers import generation
from services.generation.completions.records import log_records
from services.generation.completions.run import CALLER_DISCONNECTED, INTERNAL_ERROR, GenerationRun
from services.generation.completions.sample import ProviderCall
from services.generation.models import tokens
from services.generation.models.request import Choice, ModelRequest, ModelResponse
from services.generation.providers import errors
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage, Usage
from shared.contracts.generations import Chat
from shared.contracts.projects import ConfigVersion, ModelConfig, Project, ProjectRef, Resolved
from shared.errors import Invalid

MESSAGES = [ChatMessage(role="user", content="tiktoken is great!")]
PROMPT_TOKENS = 3 + 3 + 1 + 6
"""The answer's start, a message, its role, its text."""
PRICE = (10, 30)
"""USD per million of gpt-4-1106-preview."""


def run(samples: int = 1, model: str = "gpt-4-1106-preview", *, save: bool = True) -> GenerationRun:
    now = datetime.now(UTC)
    config = ModelConfig(model=model, endpoint="chat")
    log_ids = [f"data_{index}" for index in range(samples)]
    command = Chat(organisation="tm_1", project=ProjectRef(name="p"), log_ids=log_ids, messages=MESSAGES, save=save)
    project = Project(id="pr_1", name="p", created_at=now, updated_at=now)
    version = ConfigVersion(id="config_1", project_id="pr_1", config=config, created_at=now)
    made = GenerationRun(command, Resolved(project=project, version=version), config, None)
    made.request = ModelRequest(config=config, messages=MESSAGES, samples=samples)
    return made


def call(run: GenerationRun, first: int = 0, *, model: str | None = None, samples: int | None = None) -> ProviderCall:
    """A call that is under way."""
    assert run.request
    config = run.config.model_copy(update={"model": model}) if model else run.config
    request = replace(run.request, config=config, samples=samples or run.request.samples)
    (call,) = Providers({"OPENAI_API_KEY": "sk-1"}, None).prepare(request, {})
    made = run.start_call(first, call)
    made.progress.may_have_cost = True
    return made


def completion(*texts: str, usage: Usage | None = None) -> ModelResponse:
    return ModelResponse([Choice(text, finish_reason="stop") for text in texts], {}, usage)


def used(prompt: int, generated: int) -> Usage:
    return Usage(prompt_tokens=prompt, generation_tokens=generated, total_tokens=prompt + generated)


async def test_what_the_provider_told_is_charged_and_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "used", lambda *_: pytest.fail("counted"))
    done = run()
    done.record_response(0, call(done), completion("hi", usage=used(12, 5)))
    (log,) = await log_records(done)
    assert (log.prompt_cost, log.output_cost) == (12 * PRICE[0] / 1e6, 5 * PRICE[1] / 1e6)


async def test_what_nobody_told_is_counted_once_for_all_samples_of_a_request() -> None:
    done = run(samples=2)
    done.record_response(0, call(done), completion("tiktoken is great!", "2 + 2 = 4"))
    first, second = await log_records(done)
    assert (first.prompt_tokens, first.output_tokens, first.tokens) == (PROMPT_TOKENS, 13, PROMPT_TOKENS + 13)
    assert first.output_cost == 13 * PRICE[1] / 1e6
    assert (second.tokens, second.prompt_cost, second.output_cost) == (None, None, None)
    assert generation(done).usage.total_tokens == PROMPT_TOKENS + 13


async def test_a_call_its_caller_left_costs_its_prompt() -> None:
    left = run()
    call(left)
    left.abort(CALLER_DISCONNECTED)
    (log,) = await log_records(left)
    assert (log.error, log.prompt_tokens, log.output_tokens) == (CALLER_DISCONNECTED, PROMPT_TOKENS, 0)
    assert (log.prompt_cost, log.output_cost) == (PROMPT_TOKENS * PRICE[0] / 1e6, 0)


async def test_a_call_that_was_not_sent_costs_nothing() -> None:
    left = run()
    call(left).progress.may_have_cost = False
    left.abort(CALLER_DISCONNECTED)
    (log,) = await log_records(left)
    assert (log.error, log.tokens, log.prompt_cost) == (CALLER_DISCONNECTED, None, None)


async def test_what_was_never_asked_counts_nothing() -> None:
    refused = run()
    refused.fail(Invalid("no such input"))
    (log,) = await log_records(refused)
    assert (log.tokens, log.prompt_cost) == (None, None)


async def test_a_model_without_a_known_price_has_tokens_and_no_costs() -> None:
    done = run(model="my-own-model")
    done.record_response(0, call(done), completion("hi"))
    (log,) = await log_records(done)
    assert log.tokens
    assert (log.prompt_cost, log.output_cost) == (None, None)


async def test_what_a_failed_model_cost_stays_when_another_answers() -> None:
    done = run(samples=2)
    done.record_failure(
        0, call(done), errors.invalid_response("OpenAI", "broke", completion("a", "b", usage=used(100, 10)))
    )
    done.record_response(0, call(done, model="gpt-4", samples=1), completion("hi", usage=used(7, 1)))
    done.record_response(1, call(done, 1, model="gpt-4", samples=1), completion("ho", usage=used(7, 2)))
    first, second = await log_records(done)
    assert (first.prompt_tokens, first.output_tokens, first.served_model) == (107, 11, "gpt-4")
    assert first.prompt_cost == pytest.approx((100 * 10 + 7 * 30) / 1e6)
    assert (second.prompt_tokens, second.output_tokens) == (7, 2)
    assert (first.output, second.output, first.error, second.error) == ("hi", "ho", None, None)
    assert generation(done).usage.total_tokens == 100 + 10 + 8 + 9


async def test_samples_that_came_are_kept_and_only_the_others_have_failed() -> None:
    short = run(samples=3)
    problem = errors.invalid_response("OpenAI", "gave 2 of the 3 samples", completion("one", "two", usage=used(9, 2)))
    short.record_failure(0, call(short), problem)
    assert [result.can_fall_back for result in short.results] == [False, False, True]
    logs = await log_records(short)
    assert [(log.output, bool(log.error), log.tokens) for log in logs] == [
        ("one", False, 11),
        ("two", False, None),
        (None, True, None),
    ]


async def test_a_log_has_its_own_choice_in_whatever_order_they_come() -> None:
    done = run(samples=2)
    raw = {"choices": [{"index": 1, "message": "b"}, {"index": 0, "message": "a"}]}
    done.record_response(0, call(done), ModelResponse([Choice("a"), Choice("b")], raw))
    first, second = await log_records(done)
    assert first.provider_response == {"choices": [{"index": 0, "message": "a"}]}
    assert second.provider_response == {"choices": [{"index": 1, "message": "b"}]}


async def test_more_samples_than_were_asked_for_are_nobodys() -> None:
    done = run(samples=2)
    done.record_response(1, call(done, 1, samples=1), completion("second"))
    done.record_response(0, call(done, 0, samples=1), completion("first", "surplus"))
    assert [log.output for log in await log_records(done)] == ["first", "second"]


async def test_of_a_long_request_the_log_keeps_the_small_parts() -> None:
    done = run()
    made = call(done)
    body = {"contents": ["a" * 70_000], "safetySettings": ["strict"]}
    made.prepared = replace(made.prepared, body=body, text_bytes=3 * 1024 * 1024)
    (log,) = await log_records(done)
    assert log.provider_request
    assert log.provider_request["safetySettings"] == ["strict"]
    assert log.provider_request["contents"].startswith("Left out because of its size")


async def test_a_sample_that_did_not_end_has_failed_although_it_came() -> None:
    fail = run(samples=3)
    came = ModelResponse([Choice("half an", finish_reason=None)], {}, used(9, 2))
    fail.record_failure(0, call(fail), errors.invalid_response("OpenAI", "it broke", came))
    assert [result.can_fall_back for result in fail.results] == [True] * 3
    first, *_ = await log_records(fail)
    assert (first.output, first.error, first.tokens) == ("half an", "OpenAI it broke", 11)


async def test_what_cannot_be_written_down_leaves_a_log_all_the_same() -> None:
    odd = run(samples=2)
    reason: Any = {"no": "reason"}
    odd.record_response(0, call(odd), ModelResponse([Choice("a", finish_reason=reason), Choice("b")], {}, used(9, 2)))
    first, second = await log_records(odd)
    assert (first.error, first.output, first.messages) == (INTERNAL_ERROR, None, MESSAGES)
    assert (second.error, second.output) == (None, "b")


async def test_the_time_of_a_call_is_not_that_of_the_one_before() -> None:
    left = run()
    left.record_failure(0, call(left), errors.invalid_response("OpenAI", "it broke"))
    call(left, model="gpt-4")
    left.abort(CALLER_DISCONNECTED)
    (log,) = await log_records(left)
    assert (log.served_model, log.provider_latency) == ("gpt-4", None)

"""Log records of a run, however it ended: one a sample, with tokens and costs."""

from typing import Any

import pytest

from services.generation.completions.answers import generation
from services.generation.completions.records import failed_event, log_records
from services.generation.completions.run import CALLER_DISCONNECTED, INTERNAL_ERROR
from services.generation.models import tokens as token_counts
from services.generation.models.request import Choice, ModelResponse
from services.generation.providers import errors
from shared.contracts.chat import FunctionCall, ToolCall, ToolResult
from shared.errors import Invalid, RateLimited
from tests.unit.generation.completions.builders import (
    MESSAGES,
    generation_run,
    response,
    sent_call,
    tokens,
    with_body,
)

PROMPT_TOKENS = 3 + 3 + 1 + 6
"""The answer's start, a message, its role, its text."""
PRICE = (10, 30)
"""USD per million of gpt-4-1106-preview."""


async def test_usage_from_the_provider_is_charged_and_nothing_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_counts, "count_usage", lambda *_: pytest.fail("counted"))
    done = generation_run()
    done.record_response(0, sent_call(done), response("hi", usage=tokens(12, 5)))
    (log,) = await log_records(done)
    assert (log.prompt_cost, log.output_cost) == (12 * PRICE[0] / 1e6, 5 * PRICE[1] / 1e6)


async def test_missing_usage_is_estimated_once_for_all_samples_of_a_request() -> None:
    done = generation_run(samples=2)
    done.record_response(0, sent_call(done), response("tiktoken is great!", "2 + 2 = 4"))
    first, second = await log_records(done)
    assert (first.prompt_tokens, first.output_tokens, first.tokens) == (PROMPT_TOKENS, 13, PROMPT_TOKENS + 13)
    assert first.output_cost == 13 * PRICE[1] / 1e6
    assert (second.tokens, second.prompt_cost, second.output_cost) == (None, None, None)
    assert generation(done).usage.total_tokens == PROMPT_TOKENS + 13


async def test_a_call_whose_caller_disconnected_costs_its_prompt() -> None:
    left = generation_run()
    sent_call(left)
    left.abort(CALLER_DISCONNECTED)
    (log,) = await log_records(left)
    assert (log.error, log.prompt_tokens, log.output_tokens) == (CALLER_DISCONNECTED, PROMPT_TOKENS, 0)
    assert (log.prompt_cost, log.output_cost) == (PROMPT_TOKENS * PRICE[0] / 1e6, 0)


async def test_a_call_that_was_not_sent_costs_nothing() -> None:
    left = generation_run()
    sent_call(left).progress.may_have_cost = False
    left.abort(CALLER_DISCONNECTED)
    (log,) = await log_records(left)
    assert (log.error, log.tokens, log.prompt_cost) == (CALLER_DISCONNECTED, None, None)


async def test_a_run_without_a_call_has_no_tokens() -> None:
    refused = generation_run()
    refused.fail(Invalid("no such input"))
    (log,) = await log_records(refused)
    assert (log.tokens, log.prompt_cost) == (None, None)


async def test_a_model_without_a_known_price_has_tokens_and_no_costs() -> None:
    done = generation_run(model="my-own-model")
    done.record_response(0, sent_call(done), response("hi"))
    (log,) = await log_records(done)
    assert log.tokens
    assert (log.prompt_cost, log.output_cost) == (None, None)


async def test_costs_of_a_failed_model_stay_on_the_log_when_a_fallback_answers() -> None:
    done = generation_run(samples=2)
    done.record_failure(
        0, sent_call(done), errors.invalid_response("OpenAI", "broke", response("a", "b", usage=tokens(100, 10)))
    )
    done.record_response(0, sent_call(done, model="gpt-4", samples=1), response("hi", usage=tokens(7, 1)))
    done.record_response(1, sent_call(done, 1, model="gpt-4", samples=1), response("ho", usage=tokens(7, 2)))
    first, second = await log_records(done)
    assert (first.prompt_tokens, first.output_tokens, first.served_model) == (107, 11, "gpt-4")
    assert first.prompt_cost == pytest.approx((100 * 10 + 7 * 30) / 1e6)
    assert (second.prompt_tokens, second.output_tokens) == (7, 2)
    assert (first.output, second.output, first.error, second.error) == ("hi", "ho", None, None)
    assert generation(done).usage.total_tokens == 100 + 10 + 8 + 9


async def test_samples_that_came_with_a_failure_are_kept_and_only_the_others_have_failed() -> None:
    short = generation_run(samples=3)
    problem = errors.invalid_response("OpenAI", "gave 2 of the 3 samples", response("one", "two", usage=tokens(9, 2)))
    short.record_failure(0, sent_call(short), problem)
    assert [result.can_fall_back for result in short.results] == [False, False, True]
    logs = await log_records(short)
    assert [(log.output, bool(log.error), log.tokens) for log in logs] == [
        ("one", False, 11),
        ("two", False, None),
        (None, True, None),
    ]


async def test_a_log_has_its_own_choice_of_a_shared_response_whatever_their_order() -> None:
    done = generation_run(samples=2)
    raw = {"choices": [{"index": 1, "message": "b"}, {"index": 0, "message": "a"}]}
    done.record_response(0, sent_call(done), ModelResponse([Choice("a"), Choice("b")], raw))
    first, second = await log_records(done)
    assert first.provider_response == {"choices": [{"index": 0, "message": "a"}]}
    assert second.provider_response == {"choices": [{"index": 1, "message": "b"}]}


async def test_surplus_samples_of_a_response_are_dropped() -> None:
    done = generation_run(samples=2)
    done.record_response(1, sent_call(done, 1, samples=1), response("second"))
    done.record_response(0, sent_call(done, 0, samples=1), response("first", "surplus"))
    assert [log.output for log in await log_records(done)] == ["first", "second"]


async def test_the_log_of_a_long_request_keeps_its_short_fields() -> None:
    done = generation_run()
    made = sent_call(done)
    body = {"contents": ["a" * 70_000], "safetySettings": ["strict"]}
    made.prepared = with_body(made.prepared, body, 3 * 1024 * 1024)
    (log,) = await log_records(done)
    assert log.provider_request
    assert log.provider_request["safetySettings"] == ["strict"]
    assert log.provider_request["contents"].startswith("Left out because of its size")


async def test_a_sample_without_a_finish_reason_has_failed_and_keeps_its_text() -> None:
    fail = generation_run(samples=3)
    came = ModelResponse([Choice("half an", finish_reason=None)], {}, tokens(9, 2))
    fail.record_failure(0, sent_call(fail), errors.invalid_response("OpenAI", "it broke", came))
    assert [result.can_fall_back for result in fail.results] == [True] * 3
    first, *_ = await log_records(fail)
    assert (first.output, first.error, first.tokens) == ("half an", "OpenAI it broke", 11)


async def test_a_result_that_fails_validation_leaves_a_log_with_an_error() -> None:
    odd = generation_run(samples=2)
    reason: Any = {"no": "reason"}
    odd.record_response(
        0, sent_call(odd), ModelResponse([Choice("a", finish_reason=reason), Choice("b")], {}, tokens(9, 2))
    )
    first, second = await log_records(odd)
    assert (first.error, first.output, first.messages) == (INTERNAL_ERROR, None, MESSAGES)
    assert (second.error, second.output) == (None, "b")


async def test_the_latency_of_an_earlier_call_is_not_kept() -> None:
    left = generation_run()
    left.record_failure(0, sent_call(left), errors.invalid_response("OpenAI", "it broke"))
    sent_call(left, model="gpt-4")
    left.abort(CALLER_DISCONNECTED)
    (log,) = await log_records(left)
    assert (log.served_model, log.provider_latency) == ("gpt-4", None)


async def test_a_record_has_what_the_command_says() -> None:
    run = generation_run(
        inputs={"a": "b"},
        session_id="sesh_1",
        parent_id="data_p",
        reference_ids={"session": "s-ref", "parent": "p-ref"},
        source="app",
        metadata={"k": "v"},
        user="u",
        tool_choice="auto",
        source_datapoint_id="evp_1",
    )
    run.environment = "staging"
    run.tool_results = [ToolResult(id="tool_1", name="t", signature="t()", result="r")]
    calls = [ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))]
    run.record_response(0, sent_call(run), ModelResponse([Choice(" text ", calls, "stop")], {"id": "r"}))
    (log,) = await log_records(run)
    assert (log.id, log.organisation, log.project_id, log.config_id) == ("data_0", "tm_1", "pr_1", "config_1")
    assert (log.session_id, log.session_reference_id) == ("sesh_1", "s-ref")
    assert (log.parent_id, log.parent_reference_id) == ("data_p", "p-ref")
    assert (log.inputs, log.source, log.metadata, log.user) == ({"a": "b"}, "app", {"k": "v"}, "u")
    assert (log.environment, log.source_datapoint_id, log.tool_choice) == ("staging", "evp_1", "auto")
    assert (log.output, log.raw_output, log.finish_reason) == ("text", " text ", "tool_call")
    assert log.output_message
    assert (log.output_message.content, log.output_message.tool_calls) == ("text", calls)
    assert (log.model, log.served_provider, log.served_model) == (run.config.model, "openai", run.config.model)
    assert (log.tools, log.provider_response, log.messages) == (run.tool_results, {"id": "r"}, MESSAGES)
    assert log.created_at == run.received_at


async def test_without_save_a_record_has_costs_and_no_content() -> None:
    run = generation_run(2, save=False)
    failure = errors.invalid_response("OpenAI", "said: tiktoken is great!", response("secret", usage=tokens(12, 5)))
    run.record_failure(0, sent_call(run), failure)
    first, second = await log_records(run)
    assert (first.output, first.messages, first.provider_request, first.save) == (None, None, None, False)
    assert (first.tokens, first.output_cost) == (17, 5 * PRICE[1] / 1e6)
    assert second.error == "OpenAI: upstream_error (502). What it said is not kept: save is false."


def test_the_event_of_a_failure_names_the_logs_that_failed() -> None:
    run = generation_run(3)
    run.record_failure(0, sent_call(run), errors.invalid_response("OpenAI", "gave 1 of 3 samples", response("one")))
    event = failed_event(run, RateLimited("slow", origin="OpenAI"))
    assert (event.organisation, event.project_id, event.log_ids) == ("tm_1", "pr_1", ["data_1", "data_2"])
    assert (event.status, event.origin, event.kind) == (429, "OpenAI", "chat")

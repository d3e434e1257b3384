"""Bookings of a run: one a call to a provider, however it ended, and together what the logs say."""

from datetime import UTC, datetime

import pytest

from services.generation.completions.bookings import bookings, caller, count_bookings
from services.generation.completions.records import log_records
from services.generation.completions.run import CALLER_DISCONNECTED
from services.generation.models import tokens as token_counts
from services.generation.store import Counts
from services.generation.usage.months import month_of
from shared.errors import UpstreamFailed
from tests.unit.generation.completions.builders import generation_run, response, sent_call, tokens


async def test_a_booking_has_the_dimensions_of_the_call() -> None:
    run = generation_run()
    run.environment = "production"
    run.received_at = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    call = sent_call(run, model="gpt-4o")
    call.answered = True
    run.record_response(0, call, response("hi", usage=tokens(1000, 10)))
    (booking,) = bookings(run)
    assert booking.key._asdict() == {
        "organisation": "tm_1",
        "month": "2026-11",
        "provider": "openai",
        "model": "gpt-4o",
        "project_id": "pr_1",
        "environment": "production",
        "key_id": "key_1",
        "user_id": "usr_Admin",
    }
    assert booking.counts.calls == 1
    assert (booking.counts.prompt_tokens, booking.counts.completion_tokens) == (1000, 10)


async def test_a_call_for_several_samples_is_booked_once_and_costs_what_the_logs_say() -> None:
    run = generation_run(samples=3)
    call = sent_call(run)
    call.answered = True
    run.record_response(0, call, response("one", "two", "three", usage=tokens(12, 5)))
    (booking,) = bookings(run)
    logs = await log_records(run)
    nanos = sum(round((log.prompt_cost or 0) * 1e9) + round((log.output_cost or 0) * 1e9) for log in logs)
    assert booking.counts == Counts(calls=1, prompt_tokens=12, completion_tokens=5, cost_nanos=270_000)
    assert nanos == 270_000


async def test_a_failed_call_and_its_fallback_are_booked_each_at_its_model() -> None:
    run = generation_run()
    failed = sent_call(run)
    run.record_failure(0, failed, UpstreamFailed("broken"))
    fallback = sent_call(run, model="gpt-4o")
    fallback.answered = True
    run.record_response(0, fallback, response("hi", usage=tokens(12, 5)))
    first, second = await count_bookings(run)
    assert (first.key.model, first.counts.calls, first.counts.failed_calls) == ("gpt-4-1106-preview", 1, 1)
    assert (second.key.model, second.counts.calls, second.counts.failed_calls) == ("gpt-4o", 1, 0)
    (log,) = await log_records(run)
    assert first.counts.prompt_tokens > 0
    assert first.counts.prompt_tokens + second.counts.prompt_tokens == log.prompt_tokens


async def test_a_call_whose_caller_left_is_booked_with_counted_tokens() -> None:
    run = generation_run()
    sent_call(run)
    run.abort(CALLER_DISCONNECTED)
    (booking,) = await count_bookings(run)
    (log,) = await log_records(run)
    assert (booking.counts.failed_calls, booking.counts.prompt_tokens) == (1, log.prompt_tokens)
    assert booking.counts.cost_nanos == round((log.prompt_cost or 0) * 1e9) > 0


async def test_a_refused_call_is_counted_and_costs_nothing() -> None:
    run = generation_run()
    sent_call(run).progress.may_have_cost = False
    (booking,) = await count_bookings(run)
    assert booking.counts == Counts(calls=1, failed_calls=1)


async def test_a_run_that_called_nobody_books_nothing() -> None:
    assert await count_bookings(generation_run()) == []


async def test_tokens_of_a_model_without_a_price_are_counted_as_unpriced() -> None:
    run = generation_run(model="nobody-knows")
    call = sent_call(run)
    call.answered = True
    run.record_response(0, call, response("hi", usage=tokens(12, 5)))
    (booking,) = bookings(run)
    assert booking.counts == Counts(calls=1, unpriced_calls=1, prompt_tokens=12, completion_tokens=5)


async def test_what_cannot_be_counted_is_booked_as_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(token_counts, "count_usage", fail)
    run = generation_run()
    sent_call(run)
    (booking,) = await count_bookings(run)
    assert booking.counts == Counts(calls=1, failed_calls=1)


def test_the_budgets_of_a_run_are_those_of_its_project_and_key() -> None:
    run = generation_run()
    assert caller(run) == ("tm_1", "pr_1", "p", "key_1")
    assert month_of(run.received_at) == month_of(datetime.now(UTC))

"""What a sample's calls took: usage from the provider or estimated, costs, and what a log shows of a request."""

from typing import Any

import pytest

from services.generation.completions.sample import ProviderCall, SampleResult
from services.generation.models import Costs
from services.generation.models.request import Choice, ModelResponse, ResponseDelta
from services.generation.providers import errors
from shared.contracts.chat import Usage
from shared.errors import Invalid, Problem, RateLimited, Unavailable
from tests.unit.generation.completions.builders import prepared_request, response, tokens, with_body

MIB = 1024 * 1024
PROMPT_TOKENS = 13
"""Of `builders.MESSAGES`: 3 for the answer's start, 3 for a message, 1 for its role, 6 for its text."""


def call(model: str = "gpt-4-1106-preview", usage: Usage | None = None, *, sent: bool = True) -> ProviderCall:
    made = ProviderCall(prepared_request(model), usage=usage)
    made.progress.may_have_cost = sent
    return made


def sample(*calls: ProviderCall) -> SampleResult:
    return SampleResult(billed_calls=list(calls))


class TestUsage:
    def test_the_usage_of_a_response_is_the_calls(self) -> None:
        made = call()
        made.record_response(response("one", "two", usage=tokens(9, 4)))
        assert made.usage == tokens(9, 4)
        assert [choice.text for choice in made.choices] == ["one", "two"]

    def test_a_stream_that_ended_has_the_usage_of_its_events(self) -> None:
        made = call()
        for delta in (ResponseDelta(text="hi", usage=tokens(9, 1)), ResponseDelta(finish_reason="stop")):
            made.progress.add(delta)
        made.record_stream_end(None)
        assert made.usage == tokens(9, 1)
        assert made.choices == [Choice("hi", finish_reason="stop")]

    def test_usage_from_the_middle_of_a_stream_is_not_final(self) -> None:
        made = call()
        made.progress.add(ResponseDelta(text="hi", usage=tokens(9, 1)))
        made.record_stream_end(Unavailable("gone"))
        assert made.usage is None

    def test_usage_that_came_with_the_failure_of_a_stream_is_final(self) -> None:
        made = call()
        made.progress.add(ResponseDelta(text="hi", usage=tokens(9, 1)))
        made.record_stream_end(errors.invalid_response("X", "broke", ModelResponse([], {}, tokens(9, 5))))
        assert made.usage == tokens(9, 5)

    async def test_usage_from_the_provider_is_not_estimated_again(self) -> None:
        made = call(usage=tokens(1, 2))
        made.choices = [Choice("tiktoken is great!")]
        await made.count_tokens()
        assert made.usage == tokens(1, 2)

    async def test_missing_usage_is_estimated_from_prompt_and_choices(self) -> None:
        made = call()
        made.choices = [Choice("tiktoken is great!"), Choice("tiktoken is great!")]
        await made.count_tokens()
        assert made.usage == tokens(PROMPT_TOKENS, 12)

    async def test_prompt_tokens_a_broken_stream_began_with_are_not_estimated(self) -> None:
        made = call()
        made.progress.add(ResponseDelta(text="tiktoken is great!", usage=tokens(100, 0)))
        made.record_stream_end(Unavailable("gone"))
        await made.count_tokens()
        assert made.usage == tokens(100, 6)

    async def test_a_call_that_costs_nothing_has_no_usage(self) -> None:
        made = call(sent=False)
        made.choices = [Choice("tiktoken is great!")]
        await made.count_tokens()
        assert made.usage is None

    async def test_a_sample_has_the_sum_of_its_calls(self) -> None:
        result = sample(call(usage=tokens(5, 1)), call(), call(sent=False))
        assert result.usage == tokens(5, 1)
        await result.count_tokens()
        assert result.usage == tokens(5 + PROMPT_TOKENS, 1)

    def test_a_sample_without_any_usage_has_none(self) -> None:
        assert sample().usage is None
        assert sample(call()).usage is None


class TestCosts:
    def test_costs_follow_the_price_of_the_model_that_was_called(self) -> None:
        """USD per million tokens: 10 and 30."""
        assert call(usage=tokens(1_000_000, 100_000)).costs == Costs(10, 3)

    def test_a_call_without_usage_or_price_has_no_costs(self) -> None:
        assert call().costs is None
        assert call("my-own-model", tokens(10, 10)).costs is None

    def test_a_sample_has_the_sum_over_calls_with_a_known_price(self) -> None:
        result = sample(
            call(usage=tokens(1_000_000, 0)), call("my-own-model", tokens(9, 9)), call(usage=tokens(0, 1_000_000))
        )
        assert result.costs == Costs(10, 30)

    def test_a_sample_without_a_known_price_has_no_costs(self) -> None:
        assert sample(call("my-own-model", tokens(9, 9))).costs is None
        assert sample().costs is None


class TestFallback:
    @pytest.mark.parametrize(
        ("problem", "text_sent", "expected"),
        [
            (Unavailable("away"), False, True),
            (RateLimited("slow"), False, True),
            (errors.timed_out("X"), False, True),
            (errors.invalid_response("X", "broke"), False, True),
            (Unavailable("away"), True, False),
            (Invalid("no"), False, False),
            (errors.response_withheld("X", "withheld it"), False, False),
            (None, False, False),
        ],
    )
    def test_a_sample_falls_back_after_a_retryable_problem_unless_text_was_sent(
        self, problem: Problem | None, text_sent: bool, expected: bool
    ) -> None:
        assert SampleResult(problem=problem, text_sent=text_sent).can_fall_back is expected


class TestLoggedBody:
    BODY: dict[str, Any] = {"messages": ["x" * 70_000], "model": "m"}

    def test_a_request_of_up_to_two_mib_of_text_is_logged_whole(self) -> None:
        made = ProviderCall(with_body(prepared_request(), self.BODY, 2 * MIB))
        assert made.logged_body() == self.BODY

    def test_of_a_longer_one_fields_over_64_kib_are_left_out(self) -> None:
        body = self.BODY | {"just_fits": "y" * (64 * 1024 - 2)}
        made = ProviderCall(with_body(prepared_request(), body, 2 * MIB + 1))
        logged = made.logged_body()
        assert logged["messages"].startswith("Left out because of its size")
        assert (logged["model"], logged["just_fits"]) == ("m", body["just_fits"])
        assert made.prepared.body == body

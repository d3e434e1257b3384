"""The state of a run: what its calls gave each sample, and how it ends."""

from dataclasses import replace
from typing import Any

import pytest

from services.generation.completions.run import GenerationRun
from services.generation.models.request import Choice, ModelResponse, ResponseDelta
from services.generation.providers import errors
from shared.contracts.chat import ChatMessage
from shared.contracts.generation.generations import Complete
from shared.contracts.generation.projects import ProjectRef
from shared.errors import Invalid, Unavailable
from tests.principals import member
from tests.unit.generation.completions.builders import MESSAGES, generation_run, prepared_request, response, sent_call


def texts(run: GenerationRun) -> list[str | None]:
    return [result.choice.text if result.choice else None for result in run.results]


def test_a_run_has_a_result_for_each_log() -> None:
    run = generation_run(3)
    assert len({id(result) for result in run.results}) == len(run.results) == 3


def test_a_new_call_clears_what_an_earlier_one_gave_but_not_that_it_is_billed() -> None:
    run = generation_run()
    first = sent_call(run)
    run.record_failure(0, first, errors.invalid_response("X", "broke", ModelResponse([Choice("half")], {"id": 1})))
    second = run.start_call(0, prepared_request("gpt-4"))
    (result,) = run.results
    assert (result.choice, result.response, result.own_response, result.problem, result.latency) == (None,) * 5
    assert result.call is second
    assert result.billed_calls == [first, second]


def test_a_call_for_several_samples_is_billed_to_the_first_of_them() -> None:
    run = generation_run(3)
    call = sent_call(run, 1, samples=2)
    assert [result.billed_calls for result in run.results] == [[], [call], []]
    assert [result.call for result in run.results] == [None, call, call]


def test_a_response_with_fewer_samples_leaves_the_others_without_a_choice() -> None:
    run = generation_run(3)
    run.record_response(0, sent_call(run), response("one", "two"))
    assert texts(run) == ["one", "two", None]
    assert [result.latency is not None for result in run.results] == [True, True, False]


def test_a_failure_is_the_problem_of_samples_without_a_finish_reason() -> None:
    run = generation_run(3)
    partial = ModelResponse([Choice("one", finish_reason="stop"), Choice("half")], {})
    problem = errors.invalid_response("X", "broke", partial)
    run.record_failure(0, sent_call(run), problem)
    assert [result.problem for result in run.results] == [None, problem, problem]
    assert all(result.latency is not None for result in run.results)


def test_a_stream_that_did_not_begin_has_no_choice() -> None:
    run, problem = generation_run(), Unavailable("away")
    run.record_stream_end(0, sent_call(run), problem)
    assert (texts(run), run.problem) == ([None], problem)


def test_a_stream_that_began_has_what_came_in_the_form_of_a_response() -> None:
    run = generation_run()
    call = sent_call(run)
    call.progress.answer_started = True
    call.progress.accumulator.add(ResponseDelta(text="half"))
    run.record_stream_end(0, call, None)
    assert texts(run) == ["half"]
    (result,) = run.results
    assert result.response == result.own_response
    assert result.response
    assert result.response["choices"][0]["message"]["content"] == "half"


def test_failing_ends_samples_without_an_answer_and_keeps_their_own_problems() -> None:
    run, own, last = generation_run(3), Unavailable("own"), Invalid("last")
    run.results[0].choice = Choice("done", finish_reason="stop")
    run.results[1].problem = own
    run.fail(last)
    assert [result.problem for result in run.results] == [None, own, last]
    assert run.problem is own


def test_a_run_without_problems_has_none() -> None:
    assert generation_run(2).problem is None


def test_aborting_ends_samples_without_a_complete_answer() -> None:
    run = generation_run(3)
    run.results[0].choice = Choice("done", finish_reason="stop")
    run.results[1].choice = Choice("half")
    run.abort("left")
    run.abort("again")
    assert [result.error for result in run.results] == [None, "left", "left"]


async def test_counting_reaches_every_sample() -> None:
    run = generation_run(2)
    for index in range(2):
        run.record_response(index, sent_call(run, index, samples=1), response("hi"))
    await run.count_tokens()
    assert all(result.usage and result.usage.prompt_tokens for result in run.results)


def test_messages_are_those_of_the_request_or_the_callers_before_there_is_one() -> None:
    run = generation_run()
    assert run.request
    run.request = replace(run.request, messages=[ChatMessage(role="system", content="s"), *MESSAGES])
    assert [message.role for message in run.messages or ()] == ["system", "user"]
    run.request = None
    assert run.messages == MESSAGES


def test_a_completion_has_no_messages() -> None:
    run = generation_run()
    run.command = Complete(principal=member("tm_1"), project=ProjectRef(name="p"), log_ids=["data_0"])
    assert run.messages is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"choices": [{"index": 1, "text": "b"}, {"text": "a"}]}, [{"text": "a"}]),
        ({"choices": [{"text": "only"}]}, [{"text": "only"}]),
        ({"choices": [{"index": "x"}, {"index": "y"}]}, [{"index": "x"}, {"index": "y"}]),
        ({"choices": [1, 2]}, [1, 2]),
    ],
    ids=["any order", "one choice", "no numbers", "no objects"],
)
def test_the_response_of_a_sample_has_its_own_choice_if_they_can_be_told_apart(raw: Any, expected: Any) -> None:
    run = generation_run(2)
    run.record_response(0, sent_call(run), ModelResponse([Choice("a"), Choice("b")], raw))
    own = run.results[0].own_response
    assert own
    assert own["choices"] == expected
    assert run.results[0].response == raw

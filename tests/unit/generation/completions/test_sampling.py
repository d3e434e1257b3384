"""A plan becomes samples: calls at once, failures by themselves, fallbacks in order, chunks as they arrive."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.generation.completions.planner import Plan
from services.generation.completions.run import GenerationRun
from services.generation.completions.sampling import Sampler
from services.generation.models.request import Choice, ModelResponse, ResponseDelta
from services.generation.providers import errors
from services.generation.providers.base import PreparedRequest
from shared.contracts.generation.generations import Chunk
from shared.errors import Invalid, Problem, RateLimited, TooLarge, Unavailable
from tests.unit.generation.completions.builders import (
    ScriptedDispatch,
    Step,
    generation_run,
    prepared_request,
    response,
    tokens,
)

DONE = ResponseDelta(finish_reason="stop")


def plan(*requests: PreparedRequest, fallbacks: tuple[str, ...] = ()) -> Plan:
    async def fallback_requests() -> AsyncGenerator[PreparedRequest, None]:
        for model in fallbacks:
            yield prepared_request(model, stream=requests[0].request.stream)

    async def single_request() -> PreparedRequest:
        return prepared_request(requests[0].request.config.model)

    return Plan(list(requests), fallback_requests, single_request)


def outputs(run: GenerationRun) -> list[str | None]:
    return [result.choice.text if result.choice else None for result in run.results]


def problems(run: GenerationRun) -> list[str | None]:
    return [result.problem.message if result.problem else None for result in run.results]


def text(text: str) -> ResponseDelta:
    return ResponseDelta(text=text)


async def collect(sampler: Sampler) -> list[Chunk]:
    async with aclosing(sampler.stream()) as chunks, asyncio.timeout(2):
        return [chunk async for chunk in chunks]


class TestComplete:
    async def test_samples_that_a_server_did_not_give_are_asked_for_one_by_one(self) -> None:
        run = generation_run(3)
        dispatch = ScriptedDispatch({"a": [response("first"), response("second"), response("third")]})
        await Sampler(run, plan(prepared_request("a", 3)), dispatch).complete()
        assert (outputs(run), problems(run)) == (["first", "second", "third"], [None] * 3)
        assert dispatch.models == ["a"] * 3
        assert [len(result.billed_calls) for result in run.results] == [1, 1, 1]

    async def test_a_missing_sample_that_fails_does_not_cost_the_others(self) -> None:
        run = generation_run(2)
        dispatch = ScriptedDispatch({"a": [response("first"), Invalid("no more")]})
        await Sampler(run, plan(prepared_request("a", 2)), dispatch).complete()
        assert (outputs(run), problems(run)) == (["first", None], [None, "no more"])

    async def test_the_request_for_missing_samples_is_prepared_once(self) -> None:
        run, dispatch, prepared = generation_run(4), ScriptedDispatch({"a": [response(str(n)) for n in range(4)]}), []

        async def single_request() -> PreparedRequest:
            prepared.append(prepared_request("a"))
            return prepared[-1]

        counted = replace(plan(prepared_request("a", 4)), single_request=single_request)
        await Sampler(run, counted, dispatch).complete()
        assert (outputs(run), len(prepared)) == (["0", "1", "2", "3"], 1)

    @pytest.mark.parametrize(
        ("problem", "outcome"),
        [
            (TooLarge("too many images"), (["first", None], [None, "too many images"])),
            (Unavailable("no room"), (["first", "second"], [None, None])),
        ],
    )
    async def test_a_request_for_missing_samples_that_cannot_be_prepared_is_their_problem(
        self, problem: Problem, outcome: tuple[list[str | None], list[str | None]]
    ) -> None:
        run, dispatch = generation_run(2), ScriptedDispatch({"a": [response("first")], "b": [response("second")]})

        async def single_request() -> PreparedRequest:
            raise problem

        unprepared = replace(plan(prepared_request("a", 2), fallbacks=("b",)), single_request=single_request)
        await Sampler(run, unprepared, dispatch).complete()
        assert (outputs(run), problems(run)) == outcome

    async def test_one_request_gives_all_its_samples_in_order(self) -> None:
        run, dispatch = generation_run(2), ScriptedDispatch({"a": [response("first", "second")]})
        await Sampler(run, plan(prepared_request("a", 2)), dispatch).complete()
        assert outputs(run) == ["first", "second"]
        assert (dispatch.models, dispatch.organisations) == (["a"], {"tm_1"})

    async def test_samples_follow_the_order_of_the_requests_whatever_their_sizes(self) -> None:
        run = generation_run(4)
        dispatch = ScriptedDispatch({"a": [response("1", "2")], "b": [response("3")], "c": [response("4")]})
        requests = [prepared_request("a", 2), prepared_request("b"), prepared_request("c")]
        await Sampler(run, plan(*requests), dispatch).complete()
        assert outputs(run) == ["1", "2", "3", "4"]

    async def test_all_requests_are_under_way_at_the_same_time(self) -> None:
        run = generation_run(3)
        dispatch = ScriptedDispatch({"a": [response("x") for _ in range(3)]}, rendezvous=3)
        await Sampler(run, plan(*[prepared_request("a")] * 3), dispatch).complete()
        assert outputs(run) == ["x", "x", "x"]

    async def test_a_failed_request_leaves_the_others_alone(self) -> None:
        run, dispatch = generation_run(2), ScriptedDispatch({"a": [Invalid("no")], "b": [response("yes")]})
        await Sampler(run, plan(prepared_request("a"), prepared_request("b")), dispatch).complete()
        assert (outputs(run), problems(run)) == ([None, "yes"], ["no", None])

    async def test_fallbacks_are_called_in_order_until_one_answers(self) -> None:
        run = generation_run()
        dispatch = ScriptedDispatch({"a": [Unavailable("a")], "b": [RateLimited("b")], "c": [response("from c")]})
        await Sampler(run, plan(prepared_request("a"), fallbacks=("b", "c", "d")), dispatch).complete()
        assert dispatch.models == ["a", "b", "c"]
        assert (outputs(run), problems(run)) == (["from c"], [None])

    async def test_a_problem_that_is_not_retryable_calls_no_fallback(self) -> None:
        run, dispatch = generation_run(), ScriptedDispatch({"a": [Invalid("no")]})
        await Sampler(run, plan(prepared_request("a"), fallbacks=("b",)), dispatch).complete()
        assert (dispatch.models, problems(run)) == (["a"], ["no"])

    async def test_a_fallback_that_refuses_ends_the_sample(self) -> None:
        run, dispatch = generation_run(), ScriptedDispatch({"a": [Unavailable("a")], "b": [Invalid("b")]})
        await Sampler(run, plan(prepared_request("a"), fallbacks=("b", "c")), dispatch).complete()
        assert (dispatch.models, problems(run)) == (["a", "b"], ["b"])

    async def test_the_problem_of_the_last_fallback_stays(self) -> None:
        run, dispatch = generation_run(), ScriptedDispatch({"a": [Unavailable("a")], "b": [Unavailable("b")]})
        await Sampler(run, plan(prepared_request("a"), fallbacks=("b",)), dispatch).complete()
        assert problems(run) == ["b"]
        assert run.results[0].call
        assert run.results[0].call.prepared.request.config.model == "b"

    async def test_only_the_samples_that_are_missing_fall_back_each_by_itself(self) -> None:
        run = generation_run(3)
        partial = errors.invalid_response("OpenAI", "gave 1 of the 3 samples", response("first", usage=tokens(9, 2)))
        dispatch = ScriptedDispatch({"a": [partial], "b": [response("second"), response("third")]})
        await Sampler(run, plan(prepared_request("a", 3), fallbacks=("b",)), dispatch).complete()
        assert (outputs(run), problems(run)) == (["first", "second", "third"], [None] * 3)
        assert dispatch.models == ["a", "b", "b"]

    async def test_every_call_of_a_sample_is_billed_to_it(self) -> None:
        run = generation_run()
        failed = errors.invalid_response("OpenAI", "broke", ModelResponse([Choice("half")], {}, tokens(5, 1)))
        dispatch = ScriptedDispatch({"a": [failed], "b": [response("yes", usage=tokens(7, 2))]})
        await Sampler(run, plan(prepared_request("a"), fallbacks=("b",)), dispatch).complete()
        assert run.results[0].usage == tokens(12, 3)

    async def test_an_exception_of_ours_is_raised(self) -> None:
        run, dispatch = generation_run(), ScriptedDispatch({"a": [RuntimeError("bug")]})
        with pytest.raises(RuntimeError, match="bug"):
            await Sampler(run, plan(prepared_request("a"), fallbacks=("b",)), dispatch).complete()


class TestStream:
    @staticmethod
    def sampler(
        run: GenerationRun, dispatch: ScriptedDispatch, *models: str, fallbacks: tuple[str, ...] = ()
    ) -> Sampler:
        requests = [prepared_request(model, stream=True) for model in models]
        return Sampler(run, plan(*requests, fallbacks=fallbacks), dispatch)

    async def test_chunks_of_all_samples_come_in_order_of_arrival(self) -> None:
        first_may_end, second_may_begin = asyncio.Event(), asyncio.Event()
        script: dict[str, list[list[Step]]] = {
            "a": [[text("a1"), first_may_end, text("a2"), DONE]],
            "b": [[second_may_begin, text("b1"), DONE]],
        }
        run, dispatch = generation_run(2), ScriptedDispatch(streams=script)
        seen: list[tuple[int, str, str | None]] = []
        async with aclosing(self.sampler(run, dispatch, "a", "b").stream()) as chunks, asyncio.timeout(2):
            async for chunk in chunks:
                seen.append((chunk.sample.index, chunk.sample.output, chunk.sample.finish_reason))
                second_may_begin.set()
                if chunk.sample.finish_reason:
                    first_may_end.set()
        assert seen == [
            (0, "a1", None),
            (1, "b1", None),
            (1, "", "stop"),
            (0, "a2", None),
            (0, "", "stop"),
        ]
        assert outputs(run) == ["a1a2", "b1"]

    async def test_a_long_text_is_split_and_nothing_of_it_is_lost(self) -> None:
        long = "".join(chr(65 + index % 26) for index in range(10_000))
        run, dispatch = generation_run(), ScriptedDispatch(streams={"a": [[text(long), DONE]]})
        *parts, last = await collect(self.sampler(run, dispatch, "a"))
        assert [len(part.sample.output) for part in parts] == [3072, 3072, 3072, 784]
        assert "".join(part.sample.output for part in parts) == long
        assert (last.sample.output, last.sample.finish_reason) == ("", "stop")

    async def test_a_failure_before_any_text_falls_back(self) -> None:
        script: dict[str, list[list[Step]]] = {
            "a": [[ResponseDelta(usage=tokens(3, 0)), Unavailable("a")]],
            "b": [[text("from b"), DONE]],
        }
        run, dispatch = generation_run(), ScriptedDispatch(streams=script)
        chunks = await collect(self.sampler(run, dispatch, "a", fallbacks=("b", "c")))
        assert dispatch.models == ["a", "b"]
        assert [chunk.sample.output for chunk in chunks] == ["from b", ""]
        assert problems(run) == [None]

    async def test_a_failure_after_some_text_ends_the_sample_without_a_last_chunk(self) -> None:
        run = generation_run()
        dispatch = ScriptedDispatch(streams={"a": [[text("half"), Unavailable("gone")]]})
        chunks = await collect(self.sampler(run, dispatch, "a", fallbacks=("b",)))
        assert [(chunk.sample.output, chunk.sample.finish_reason) for chunk in chunks] == [("half", None)]
        assert (dispatch.models, outputs(run), problems(run)) == (["a"], ["half"], ["gone"])

    async def test_a_failed_sample_leaves_the_others_alone(self) -> None:
        run = generation_run(2)
        dispatch = ScriptedDispatch(streams={"a": [[Invalid("no")]], "b": [[text("yes"), DONE]]})
        chunks = await collect(self.sampler(run, dispatch, "a", "b"))
        assert [(chunk.sample.index, chunk.sample.output) for chunk in chunks] == [(1, "yes"), (1, "")]
        assert problems(run) == ["no", None]

    async def test_closing_the_stream_ends_its_calls_and_keeps_what_came(self) -> None:
        script: dict[str, list[list[Step]]] = {
            "a": [[text("sent"), asyncio.Event()]],
            "b": [[asyncio.Event()]],
        }
        run, dispatch = generation_run(2), ScriptedDispatch(streams=script)
        async with asyncio.timeout(2):
            async with aclosing(self.sampler(run, dispatch, "a", "b").stream()) as chunks:
                await anext(chunks)
        assert dispatch.closed == 2
        assert outputs(run) == ["sent", None]
        assert [result.latency is not None for result in run.results] == [True, True]

    async def test_an_exception_of_ours_is_raised_and_ends_the_other_calls(self) -> None:
        script: dict[str, list[list[Step]]] = {"a": [[RuntimeError("bug")]], "b": [[text("b"), DONE]]}
        run, dispatch = generation_run(2), ScriptedDispatch(streams=script)
        with pytest.raises(RuntimeError, match="bug"):
            await collect(self.sampler(run, dispatch, "a", "b"))
        assert dispatch.closed == 2

    async def test_a_stream_whose_chunks_are_not_taken_is_not_read_on(self) -> None:
        class Endless(ScriptedDispatch):
            sent = 0

            async def stream(self, *_: object) -> AsyncGenerator[ResponseDelta, None]:
                while True:
                    await asyncio.sleep(0)
                    self.sent += 1
                    yield text("x")

        run, dispatch = generation_run(2), Endless()
        async with aclosing(self.sampler(run, dispatch, "a", "b").stream()) as chunks, asyncio.timeout(2):
            for _ in range(100):
                await anext(chunks)
            await asyncio.sleep(0.05)
            sent = dispatch.sent
            assert 100 <= sent <= 120
            await asyncio.sleep(0.05)
            assert dispatch.sent == sent

    async def test_a_call_that_takes_longer_than_it_may_because_it_is_read_slowly_has_a_problem(self) -> None:
        class Timed(ScriptedDispatch):
            async def stream(self, *_: object) -> AsyncGenerator[ResponseDelta, None]:
                async with asyncio.timeout(0.1):
                    while True:
                        yield text("x")

        run = generation_run()
        async with aclosing(self.sampler(run, Timed(), "a").stream()) as chunks, asyncio.timeout(5):
            await anext(chunks)
            await asyncio.sleep(0.2)
            rest = [chunk async for chunk in chunks]
        assert rest
        (problem,) = problems(run)
        assert problem is not None
        assert "read so slowly" in problem

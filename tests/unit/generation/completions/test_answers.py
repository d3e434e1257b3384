"""What a caller gets of a run: chunks of a stream, and the whole generation."""

import pytest

from services.generation.completions.answers import StreamChunks, generation
from services.generation.models.request import Choice, ModelResponse
from shared.contracts.chat import FunctionCall, ToolCall, ToolResult
from tests.unit.generation.completions.builders import MESSAGES, generation_run, response, sent_call, tokens

CALLS = [ToolCall(id="call_1", function=FunctionCall(name="f", arguments="{}"))]


def tool_result(size: int) -> ToolResult:
    return ToolResult(id="tool_1", name="t", signature="t()", result="x" * size)


class TestChunks:
    def test_a_text_chunk_has_ids_and_text(self) -> None:
        run = generation_run(2, session_id="sesh_1")
        chunk = StreamChunks(run).text(1, " more ")
        assert (chunk.project_id, chunk.session_id, chunk.config_id) == ("pr_1", "sesh_1", "config_1")
        assert (chunk.sample.id, chunk.sample.index) == ("data_1", 1)
        assert (chunk.sample.output, chunk.sample.raw_output) == (" more ", " more ")
        assert (chunk.sample.finish_reason, chunk.sample.tool_calls) == (None, None)

    def test_the_last_chunk_has_finish_reason_and_tool_calls_and_no_text(self) -> None:
        run = generation_run()
        run.record_response(0, sent_call(run), ModelResponse([Choice("text", CALLS, "stop")], {}))
        chunk = StreamChunks(run).end(0)
        assert (chunk.sample.output, chunk.sample.raw_output) == ("", "")
        assert (chunk.sample.finish_reason, chunk.sample.tool_calls) == ("tool_call", CALLS)

    @pytest.mark.parametrize(("size", "expected"), [(16_000, 1), (17_000, 0)])
    def test_tool_results_are_on_every_chunk_unless_they_are_too_long(self, size: int, expected: int) -> None:
        run = generation_run()
        run.tool_results = [tool_result(size)]
        chunks = StreamChunks(run)
        assert [len(chunk.tool_results) for chunk in (chunks.text(0, "a"), chunks.end(0))] == [expected] * 2

    def test_tool_results_are_measured_together(self) -> None:
        run = generation_run()
        run.tool_results = [tool_result(9_000), tool_result(9_000)]
        assert StreamChunks(run).text(0, "a").tool_results == []


class TestGeneration:
    def test_it_has_every_sample_with_its_log_id(self) -> None:
        run = generation_run(2, session_id="sesh_1")
        run.record_response(0, sent_call(run), response("  one\n", "two"))
        answer = generation(run)
        assert [(sample.id, sample.index) for sample in answer.samples] == [("data_0", 0), ("data_1", 1)]
        assert [(sample.output, sample.raw_output) for sample in answer.samples] == [("one", "  one\n"), ("two", "two")]
        assert (answer.project_id, answer.session_id, answer.config_id) == ("pr_1", "sesh_1", "config_1")
        assert answer.messages == MESSAGES

    def test_a_response_that_samples_share_is_in_it_once(self) -> None:
        run = generation_run(3)
        run.record_response(0, sent_call(run, samples=2), response("a", "b"))
        run.record_response(2, sent_call(run, 2, samples=1), ModelResponse([Choice("c")], {"id": "other"}))
        assert generation(run).provider_responses == [{"id": "r"}, {"id": "other"}]

    def test_usage_is_the_sum_over_the_samples(self) -> None:
        run = generation_run(2)
        run.record_response(0, sent_call(run, samples=1), response("a", usage=tokens(5, 1)))
        run.record_response(1, sent_call(run, 1, samples=1), response("b", usage=tokens(5, 2)))
        assert generation(run).usage == tokens(10, 3)

    def test_the_provider_request_is_that_of_the_first_sample(self) -> None:
        run = generation_run(2)
        sent_call(run, 0, model="gpt-4", samples=1)
        sent_call(run, 1, model="gpt-4o", samples=1)
        assert generation(run).provider_request["model"] == "gpt-4"

    def test_tool_results_are_in_it_however_long_they_are(self) -> None:
        run = generation_run()
        run.tool_results = [tool_result(100_000)]
        assert generation(run).tool_results == run.tool_results

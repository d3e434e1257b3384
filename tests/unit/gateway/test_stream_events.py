"""The size of stream events (behaviour.md §4.6)."""

import pytest

from services.gateway.schemas.generation_responses import MAX_REPEATED_TOOL_CALLS_BYTES, stream_event
from shared.contracts.chat import FunctionCall, ToolCall
from shared.contracts.generation.generations import Chunk, Sample


def chunk(**fields: object) -> Chunk:
    """One event of a call."""
    sample = Sample.model_validate({"id": "data_1", "index": 0} | fields)
    return Chunk(project_id="pr_1", session_id="sesh_1", config_id="config_1", sample=sample)


def calls(size: int) -> list[ToolCall]:
    """Two calls of about this many bytes."""
    return [
        ToolCall(id=f"call_{at}", function=FunctionCall(name="write", arguments="x" * (size // 2))) for at in range(2)
    ]


@pytest.mark.parametrize(("size", "in_data"), [(1000, True), (30_000, True), (33_000, False), (100_000, False)])
def test_large_tool_calls_are_in_the_output_message_only(size: int, in_data: bool) -> None:
    sent = calls(size)
    event = stream_event(chunk(tool_calls=sent, finish_reason="tool_call"), chat=True)
    (data,) = event.data
    assert data.output_message is not None
    assert data.output_message.tool_calls == sent
    assert data.tool_calls == (sent if in_data else None)
    assert data.finish_reason == "tool_call"
    assert len(event.model_dump_json()) < max(2 * MAX_REPEATED_TOOL_CALLS_BYTES, size) + 1000


def test_large_tool_calls_of_a_completion_stay_in_the_data() -> None:
    sent = calls(100_000)
    assert stream_event(chunk(tool_calls=sent), chat=False).data[0].tool_calls == sent


def test_text_is_in_three_fields() -> None:
    event = stream_event(chunk(raw_output=" and"), chat=True)
    (data,) = event.data
    assert data.output_message is not None
    assert (data.output, data.raw_output, data.output_message.content) == (" and", " and", " and")
    assert (data.tool_calls, data.output_message.tool_calls) == (None, None)

"""How long the line of an event is (behaviour.md §4.6)."""

import pytest

from services.gateway.schemas.generation_responses import MAX_REPEATED_TOOL_CALLS_BYTES, stream_event
from shared.contracts.chat import FunctionCall, ToolCall
from shared.contracts.generations import Chunk, Sample


def chunk(**fields: object) -> Chunk:
    """One event of a call."""
    sample = Sample.model_validate({"id": "data_1", "index": 0} | fields)
    return Chunk(project_id="pr_1", session_id="sesh_1", config_id="config_1", sample=sample)


def calls(size: int) -> list[ToolCall]:
    """Two calls of about this many bytes."""
    return [
        ToolCall(id=f"call_{at}", function=FunctionCall(name="write", arguments="x" * (size // 2))) for at in range(2)
    ]


@pytest.mark.parametrize(("size", "twice"), [(1000, True), (30_000, True), (33_000, False), (100_000, False)])
def test_large_tool_calls_stand_once_in_the_message(size: int, twice: bool) -> None:
    made = calls(size)
    event = stream_event(chunk(tool_calls=made, finish_reason="tool_call"), chat=True)
    (data,) = event.data
    assert data.output_message is not None
    assert data.output_message.tool_calls == made
    assert data.tool_calls == (made if twice else None)
    assert data.finish_reason == "tool_call"
    assert len(event.model_dump_json()) < max(2 * MAX_REPEATED_TOOL_CALLS_BYTES, size) + 1000


def test_without_a_message_tool_calls_stay_where_they_are() -> None:
    made = calls(100_000)
    assert stream_event(chunk(tool_calls=made), chat=False).data[0].tool_calls == made


def test_text_stands_in_three_places() -> None:
    event = stream_event(chunk(raw_output=" and"), chat=True)
    (data,) = event.data
    assert data.output_message is not None
    assert (data.output, data.raw_output, data.output_message.content) == (" and", " and", " and")
    assert (data.tool_calls, data.output_message.tool_calls) == (None, None)

"""Pieces of a streamed sample become the sample."""

from hypothesis import given
from hypothesis import strategies as st

from services.generation.completion import Chunk, Joined, ToolCallPart
from shared.contracts.chat import Usage


@given(st.lists(st.text()))
def test_text_is_joined_untouched(pieces: list[str]) -> None:
    joined = Joined()
    for piece in pieces:
        joined.add(Chunk(text=piece))
    assert joined.choice().text == "".join(pieces)


def test_parts_of_parallel_tool_calls_may_be_interleaved() -> None:
    joined = Joined()
    for part in (
        ToolCallPart(0, id="call_a", name="weather"),
        ToolCallPart(1, id="call_b", name="clock", arguments="{}"),
        ToolCallPart(0, arguments='{"city":'),
        ToolCallPart(0, arguments='"Oslo"}'),
    ):
        joined.add(Chunk(tool_calls=(part,)))
    joined.add(Chunk(finish_reason="tool_call"))
    choice = joined.choice()
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.tool_calls or ()] == [
        ("call_a", "weather", '{"city":"Oslo"}'),
        ("call_b", "clock", "{}"),
    ]
    assert choice.finish_reason == "tool_call"


def test_a_call_without_id_gets_one() -> None:
    joined = Joined()
    joined.add(Chunk(tool_calls=(ToolCallPart(3, name="f"),)))
    assert [call.id for call in joined.choice().tool_calls or ()] == ["call_3"]


def test_usage_and_reason_come_with_different_events() -> None:
    usage = Usage(prompt_tokens=1, generation_tokens=2, total_tokens=3)
    joined = Joined()
    joined.add(Chunk(finish_reason="length", about={"id": "a"}))
    joined.add(Chunk(usage=usage, about={"model": "m"}))
    assert (joined.finish_reason, joined.usage, joined.about) == ("length", usage, {"id": "a", "model": "m"})

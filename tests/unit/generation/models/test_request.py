"""StreamAccumulator joins the events of a stream; tool calls and choices are checked and normalised."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import (
    Choice,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
    get_inline_tools,
    get_tool_calls,
)
from shared.contracts.chat import ChatMessage, FinishReason, FunctionCall, ToolCall, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid


@given(st.lists(st.text()))
def test_text_is_joined_untouched(pieces: list[str]) -> None:
    accumulator = StreamAccumulator()
    for piece in pieces:
        accumulator.add(ResponseDelta(text=piece))
    assert accumulator.choice().text == "".join(pieces)


def test_parts_of_parallel_tool_calls_may_be_interleaved() -> None:
    accumulator = StreamAccumulator()
    for part in (
        ToolCallPart(0, id="call_a", name="weather"),
        ToolCallPart(1, id="call_b", name="clock", arguments="{}"),
        ToolCallPart(0, arguments='{"city":'),
        ToolCallPart(0, arguments='"Oslo"}'),
    ):
        accumulator.add(ResponseDelta(tool_calls=(part,)))
    accumulator.add(ResponseDelta(finish_reason="tool_call"))
    choice = accumulator.choice()
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.tool_calls or ()] == [
        ("call_a", "weather", '{"city":"Oslo"}'),
        ("call_b", "clock", "{}"),
    ]
    assert choice.finish_reason == "tool_call"


def test_a_call_without_id_has_an_empty_one() -> None:
    accumulator = StreamAccumulator()
    accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(3, name="f"),)))
    assert [call.id for call in accumulator.choice().tool_calls or ()] == [""]


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        (
            [
                ToolCallPart(0, id="a", name="weather", arguments="{}"),
                ToolCallPart(0, id="b", name="clock", arguments='{"at":'),
                ToolCallPart(0, id="b", arguments="1}"),
            ],
            [("a", "weather", "{}"), ("b", "clock", '{"at":1}')],
        ),
        (
            [ToolCallPart(0, id="a", name="clock", arguments="{"), ToolCallPart(0, name="clock", arguments="}")],
            [("a", "clock", "{}")],
        ),
        (
            [ToolCallPart(0, id="a", name="clock", arguments="{"), ToolCallPart(0, id="b", arguments="}")],
            [("a", "clock", "{}")],
        ),
        (
            [ToolCallPart(0, id="a", name="get_"), ToolCallPart(0, name="time")],
            [("a", "get_time", "{}")],
        ),
        (
            [ToolCallPart(0, arguments='{"query": "Oslo"}'), ToolCallPart(1, id="a", name="clock")],
            [("a", "clock", "{}")],
        ),
    ],
    ids=["all counted 0", "name in every piece", "new id for every piece", "name in pieces", "nobody's deltas"],
)
def test_fragments_of_tool_calls_are_joined_whatever_a_server_does(
    parts: list[ToolCallPart], calls: list[tuple[str, str, str]]
) -> None:
    accumulator = StreamAccumulator()
    for part in parts:
        accumulator.add(ResponseDelta(tool_calls=(part,)))
    made = accumulator.choice().tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in made] == calls


def test_usage_and_reason_come_with_different_events() -> None:
    usage = Usage(prompt_tokens=1, generation_tokens=2, total_tokens=3)
    accumulator = StreamAccumulator()
    accumulator.add(ResponseDelta(finish_reason="length", response_fields={"id": "a"}))
    accumulator.add(ResponseDelta(usage=usage, response_fields={"model": "m"}))
    assert (accumulator.finish_reason, accumulator.usage, accumulator.response_fields) == (
        "length",
        usage,
        {"id": "a", "model": "m"},
    )


def test_usage_reported_before_the_end_is_not_final() -> None:
    accumulator = StreamAccumulator()
    accumulator.add(ResponseDelta(usage=Usage(prompt_tokens=9, generation_tokens=1, total_tokens=10)))
    for piece in ("a", "b"):
        accumulator.add(ResponseDelta(text=piece))
    assert accumulator.final_usage is None
    assert accumulator.usage == Usage(prompt_tokens=9, generation_tokens=1, total_tokens=10)
    accumulator.add(ResponseDelta(finish_reason="stop", usage=Usage(generation_tokens=7, total_tokens=7)))
    assert accumulator.final_usage == Usage(prompt_tokens=9, generation_tokens=7, total_tokens=16)


def test_a_call_without_arguments_has_an_empty_object() -> None:
    accumulator = StreamAccumulator()
    accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(0, id="c", name="now"),)))
    assert [call.function.arguments for call in accumulator.choice().tool_calls or ()] == ["{}"]


def test_complete_calls_without_an_index_stay_apart() -> None:
    accumulator = StreamAccumulator()
    accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(None, name="f"), ToolCallPart(None, id="own", name="g"))))
    accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(None, name="f"),)))
    assert [(call.id, call.function.name) for call in accumulator.choice().tool_calls or ()] == [
        ("", "f"),
        ("own", "g"),
        ("", "f"),
    ]


@pytest.mark.parametrize(
    ("told", "calls", "reason"),
    [("stop", True, "tool_call"), ("stop", False, "stop"), ("length", True, "length"), (None, True, None)],
)
def test_stop_with_tool_calls_becomes_tool_call(
    told: FinishReason | None, calls: bool, reason: FinishReason | None
) -> None:
    call = ToolCall(id="a", function=FunctionCall(name="f"))
    assert Choice("", [call] if calls else None, told).finish_reason == reason


def test_the_calls_of_a_message_in_either_form() -> None:
    old, new = FunctionCall(name="old"), ToolCall(id="a", function=FunctionCall(name="new"))
    assert get_tool_calls(ChatMessage(role="assistant", content="")) == []
    assert get_tool_calls(ChatMessage(role="assistant", tool_calls=[new], tool_call=old)) == [new]
    assert get_tool_calls(ChatMessage(role="assistant", tool_call=old)) == [ToolCall(id="call_0", function=old)]


def test_a_model_is_sent_inline_tools_and_an_unresolved_link_is_refused() -> None:
    config = ModelConfig.model_validate({"model": "m", "tools": [{"name": "f"}, {"name": "g", "source": "inline"}]})
    assert [tool.name for tool in get_inline_tools(config)] == ["f", "g"]
    assert get_inline_tools(ModelConfig(model="m")) == []
    with pytest.raises(Invalid, match="oc_1"):
        get_inline_tools(
            ModelConfig.model_validate({"model": "m", "tools": [{"id": "oc_1", "source": "organization"}]})
        )


@pytest.mark.parametrize(
    "make",
    [
        Choice,
        lambda value: ResponseDelta(text=value),
        lambda value: ToolCallPart(0, id=value),
        lambda value: ToolCallPart(0, name=value),
        lambda value: ToolCallPart(0, arguments=value),
        lambda value: ToolCallPart(str(value)),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("value", [5, True, {"a": 1}, ["text"], b"text"])
def test_a_value_of_another_type_is_a_type_error(make: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(TypeError):
        make(value)


def test_accumulating_tool_calls_takes_linear_time() -> None:
    def seconds(calls: int) -> float:
        started, accumulator = time.process_time(), StreamAccumulator()
        accumulator.add(ResponseDelta(tool_calls=tuple(ToolCallPart(index, name="f") for index in range(calls))))
        return time.process_time() - started

    few = min(seconds(2_000) for _ in range(3))
    assert min(seconds(40_000) for _ in range(3)) < 100 * few  # 20 times as many; each with each would be 400


def test_log_probabilities_are_joined_by_name() -> None:
    accumulator = StreamAccumulator()
    accumulator.add(ResponseDelta(text="Hi", logprobs={"tokens": ["Hi"], "text_offset": [0], "refusal": None}))
    accumulator.add(ResponseDelta(text="!", logprobs={"tokens": ["!"], "text_offset": [2]}))
    assert accumulator.logprobs == {"tokens": ["Hi", "!"], "text_offset": [0, 2]}

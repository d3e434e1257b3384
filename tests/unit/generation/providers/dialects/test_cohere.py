"""The wire language of Cohere, with plain dicts. Comparisons with Cohere's own client are in `tests/contract`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import Choice, ModelRequest, ResponseDelta, StreamAccumulator, ToolCallPart
from services.generation.providers.dialects import cohere
from shared.contracts.chat import ChatMessage, FinishReason, FunctionChoice, FunctionName, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

USER = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": None}}


def chat(*messages: dict[str, Any], **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "command-a", "endpoint": "chat"} | fields)
    return ModelRequest(config, [ChatMessage.model_validate(message) for message in messages or (USER,)])


class TestBody:
    def test_unset_fields_are_left_out(self) -> None:
        assert cohere.body(chat()) == {
            "model": "command-a",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": False,
            "temperature": 1,
            "p": 0.99,
        }

    @pytest.mark.parametrize(("top_p", "p"), [(0, 0.01), (0.5, 0.5), (1, 0.99)])
    def test_p_is_clamped_to_the_allowed_range(self, top_p: float, p: float) -> None:
        assert cohere.body(chat(top_p=top_p))["p"] == p

    @pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
    @pytest.mark.parametrize("value", [-0.5, 1.5])
    def test_penalties_beyond_their_range_are_refused(self, penalty: str, value: float) -> None:
        with pytest.raises(Invalid, match=f"{penalty} from 0 to 1; this is {value}"):
            cohere.body(chat(**{penalty: value}))

    def test_a_tool_call_without_text_or_arguments(self) -> None:
        history = {"role": "assistant", "content": "", "tool_calls": [CALL]}
        assert cohere.body(chat(USER, history))["messages"][1] == {
            "role": "assistant",
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }

    def test_text_beside_tool_calls_is_the_tool_plan(self) -> None:
        parts = [{"type": "text", "text": "I "}, {"type": "text", "text": "look."}]
        history = {"role": "assistant", "content": parts, "tool_calls": [CALL]}
        sent = cohere.body(chat(USER, history))["messages"][1]
        assert sent["tool_plan"] == "I look."
        assert "content" not in sent

    def test_the_deprecated_form_of_a_call(self) -> None:
        history = {"role": "assistant", "tool_call": {"name": "f", "arguments": "{}"}}
        assert cohere.body(chat(USER, history))["messages"][1]["tool_calls"] == [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ]

    def test_a_tool_choice_without_its_tool_is_refused(self) -> None:
        request = chat(tools=[{"name": "f"}])
        named = ModelRequest(
            request.config, request.messages, tool_choice=FunctionChoice(function=FunctionName(name="g"))
        )
        with pytest.raises(Invalid, match="'g'"):
            cohere.body(named)

    def test_a_linked_tool_is_refused_by_its_id(self) -> None:
        with pytest.raises(Invalid, match="oc_1"):
            cohere.body(chat(tools=[{"id": "oc_1", "source": "organization"}]))

    def test_address_and_key(self) -> None:
        assert cohere.url("http://x/v2", chat()) == "http://x/v2/chat"
        assert cohere.headers(None) == {}
        assert cohere.headers("k") == {"Authorization": "Bearer k"}


class TestResponse:
    def test_thinking_is_not_part_of_the_text(self) -> None:
        content = [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": " a"},
            {"type": "text", "text": "b"},
        ]
        reply = {"finish_reason": "COMPLETE", "message": {"role": "assistant", "content": content}}
        read = cohere.read_response(chat(), reply)
        assert read.choices == [Choice(" ab", None, "stop")]
        assert read.usage is None
        assert read.raw is reply

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("COMPLETE", "stop"),
            ("STOP_SEQUENCE", "stop"),
            ("MAX_TOKENS", "length"),
            ("TOOL_CALL", "tool_call"),
            ("SOMETHING_NEW", "stop"),
        ],
    )
    def test_finish_reasons(self, theirs: str, ours: str) -> None:
        reply = {"finish_reason": theirs, "message": {"tool_plan": "x"}}
        assert cohere.read_response(chat(), reply).choices[0].finish_reason == ours

    @pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
    def test_a_failure_reason_is_an_error(self, reason: str) -> None:
        told = {"finish_reason": reason, "usage": {"tokens": {"input_tokens": 9, "output_tokens": 4}}}
        for sent in (told | {"message": {}}, {"type": "message-end", "delta": told}):
            error = cohere.read_error(sent)
            assert error
            assert (error.status or 0) >= 500
            assert cohere.read_usage(sent) == Usage(prompt_tokens=9, generation_tokens=4, total_tokens=13)

    @pytest.mark.parametrize(
        ("usage", "expected"),
        [
            (
                {"tokens": {"input_tokens": 9.0, "output_tokens": 2.0}, "billed_units": {"input_tokens": 1.0}},
                Usage(prompt_tokens=9, generation_tokens=2, total_tokens=11),
            ),
            (
                {"billed_units": {"input_tokens": 1.0, "output_tokens": 2.0}},
                Usage(prompt_tokens=1, generation_tokens=2, total_tokens=3),
            ),
            ({}, None),
            (None, None),
        ],
    )
    def test_usage(self, usage: Any, expected: Usage | None) -> None:
        reply = {"finish_reason": "COMPLETE", "message": {}, "usage": usage}
        assert cohere.read_response(chat(), reply).usage == expected

    @pytest.mark.parametrize(
        "reply",
        [
            {},
            [],
            None,
            "text",
            {"finish_reason": "COMPLETE", "message": None},
        ],
    )
    def test_json_of_another_form_raises(self, reply: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            cohere.read_response(chat(), reply)


class TestEvents:
    @pytest.mark.parametrize(
        ("event", "chunk"),
        [
            (
                {"type": "message-start", "id": "i", "delta": {"message": {"role": "assistant"}}},
                ResponseDelta(response_fields={"id": "i"}),
            ),
            (
                {"type": "content-start", "delta": {"message": {"content": {"type": "text", "text": "a"}}}},
                ResponseDelta(text="a"),
            ),
            ({"type": "content-delta", "delta": {"message": {"content": {"thinking": "hm"}}}}, ResponseDelta()),
            ({"type": "content-end", "index": 0}, ResponseDelta()),
            ({"type": "citation-start", "delta": {"message": {"citations": {}}}}, ResponseDelta()),
            ({"type": "something-new"}, ResponseDelta()),
            (
                {
                    "type": "tool-call-delta",
                    "index": 1,
                    "delta": {"message": {"tool_calls": {"function": {"arguments": "{"}}}},
                },
                ResponseDelta(tool_calls=(ToolCallPart(1, arguments="{"),)),
            ),
            (
                {"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}},
                ResponseDelta(finish_reason="length", is_last=True),
            ),
            ({"type": "message-end"}, ResponseDelta(is_last=True)),
        ],
    )
    def test_events_become_deltas(self, event: Any, chunk: ResponseDelta) -> None:
        assert cohere.read_event(chat(), event) == chunk

    @pytest.mark.parametrize(
        "event",
        [
            {},
            [],
            None,
            "text",
            {"type": "content-delta"},
            {"type": "tool-call-start", "index": 0},
        ],
    )
    def test_json_of_another_form_gives_an_empty_delta(self, event: Any) -> None:
        assert cohere.read_event(chat(), event) == ResponseDelta()

    @given(st.lists(st.text()), st.booleans(), st.sampled_from(["stop", "length", "tool_call"]))
    def test_an_accumulated_stream_reads_like_a_response(
        self, pieces: list[str], calls: bool, reason: FinishReason
    ) -> None:
        accumulator = StreamAccumulator()
        for piece in pieces:
            accumulator.add(ResponseDelta(text=piece, response_fields={"id": "i"}))
        if calls:
            accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(0, "c", "f", "{}"), ToolCallPart(1, "d", "g", "{"))))
        usage = {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 1, "output_tokens": 2}}
        accumulator.add(cohere.read_event(chat(), {"type": "message-end", "delta": {"usage": usage}}))
        accumulator.add(ResponseDelta(finish_reason=reason))
        read = cohere.read_response(chat(), cohere.write_response(chat(), accumulator))
        assert read.choices == [accumulator.choice()]
        assert read.usage == accumulator.usage
        assert read.raw["usage"] == usage


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"message": "m"}, "m"),
        ({"id": "i", "message": "m"}, "m"),
        ({"type": "message-end", "delta": {"error": "m", "finish_reason": "ERROR"}}, "m"),
        ({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}, None),
        ({"message": {"role": "assistant"}}, None),
        ({}, None),
        ([], None),
    ],
)
def test_error_messages_are_found(payload: Any, detail: str | None) -> None:
    told = cohere.read_error(payload)
    assert (told and told.detail) == detail

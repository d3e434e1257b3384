"""The wire language of Anthropic, with plain dicts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import ModelRequest, ResponseDelta, StreamAccumulator, ToolCallPart
from services.generation.providers.dialects import anthropic
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage, FunctionChoice, FunctionName, ResponseFormat, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


def chat(*messages: Any, remaining_output_tokens: int | None = None, **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"provider": "anthropic", "model": "claude-2.1", "endpoint": "chat"} | fields)
    said = messages or ({"role": "user", "content": "hi"},)
    return ModelRequest(
        config, [ChatMessage.model_validate(one) for one in said], remaining_output_tokens=remaining_output_tokens
    )


def with_fields(request: ModelRequest, **fields: Any) -> ModelRequest:
    return ModelRequest(**{**vars(request), **fields})


class TestBody:
    def test_unset_fields_are_left_out(self) -> None:
        assert anthropic.body(chat()) == {
            "model": "claude-2.1",
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        }

    @pytest.mark.parametrize(
        ("fields", "budget"), [({"max_tokens": 5}, 5), ({"remaining_output_tokens": 7}, 7), ({}, 4096)]
    )
    def test_max_tokens_is_always_sent(self, fields: dict[str, Any], budget: int) -> None:
        assert anthropic.body(chat(**fields))["max_tokens"] == budget

    def test_sampling_parameters_that_are_not_the_default(self) -> None:
        sent = anthropic.body(chat(temperature=0, top_p=0.5, stop="x"))
        assert (sent["temperature"], sent["top_p"], sent["stop_sequences"]) == (0, 0.5, ["x"])

    def test_other_overrides_all_but_the_reserved_fields(self) -> None:
        other = {"top_k": 3, "max_tokens": 1, "stream": True, "model": "x", "messages": [], "system": "x"}
        sent = anthropic.body(chat(other=other))
        assert (sent["top_k"], sent["max_tokens"], sent["model"]) == (3, 1, "claude-2.1")
        assert sent["messages"]
        assert not {"stream", "system"} & set(sent)

    def test_tools(self) -> None:
        request = chat(tools=[{"name": "f", "parameters": {"a": None}, "strict": False}, {"name": "g"}])
        sent = anthropic.body(request)
        assert sent["tools"] == [
            {"name": "f", "input_schema": {"a": None}, "strict": False},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ]
        assert "tool_choice" not in sent
        named = FunctionChoice(function=FunctionName(name="f"))
        assert anthropic.body(with_fields(request, tool_choice=named))["tool_choice"] == {"type": "tool", "name": "f"}
        assert "tool_choice" not in anthropic.body(with_fields(chat(), tool_choice="none"))

    def test_tool_results_may_be_images_or_empty(self) -> None:
        sent = anthropic.body(
            chat(
                {"role": "tool", "tool_call_id": "1", "content": [IMAGE]},
                {"role": "tool", "tool_call_id": "2", "content": ""},
            )
        )
        assert sent["messages"] == [
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "1",
                        "content": [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}],
                    },
                    {"type": "tool_result", "tool_use_id": "2"},
                ],
            }
        ]

    def test_an_image_in_an_assistant_message_is_refused(self) -> None:
        with pytest.raises(Invalid, match="user message"):
            anthropic.body(chat({"role": "assistant", "content": [IMAGE]}))

    def test_image_data_is_not_decoded(self) -> None:
        url = "data:image/webp;base64,@image-0@"
        sent = anthropic.body(chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}))
        assert sent["messages"][0]["content"][0]["source"] == {
            "type": "base64",
            "media_type": "image/webp",
            "data": "@image-0@",
        }

    def test_a_missing_schema_is_refused(self) -> None:
        with pytest.raises(Invalid, match="json_schema"):
            anthropic.body(with_fields(chat(), response_format=ResponseFormat(type="json_schema")))


class TestUrlAndKey:
    @pytest.mark.parametrize("base", ["http://proxy", "http://proxy/v1"])
    def test_base_url_may_have_v1_or_not(self, base: str) -> None:
        assert anthropic.url(base, chat()) == "http://proxy/v1/messages"

    def test_the_key_has_its_own_header(self) -> None:
        assert anthropic.headers("sk") == {"anthropic-version": "2023-06-01", "x-api-key": "sk"}
        assert anthropic.headers(None) == {"anthropic-version": "2023-06-01"}

    def test_a_completion_is_one_user_message(self) -> None:
        config = ModelConfig(provider="anthropic", model="claude-2.1")
        (call,) = Providers({"ANTHROPIC_API_KEY": "sk"}, None).prepare(ModelRequest(config, prompt="once"), {})
        assert call.url == "https://api.anthropic.com/v1/messages"
        assert call.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "once"}]}]

    @pytest.mark.parametrize(
        ("fields", "feature"),
        [
            ({"seed": 1}, "seed"),
            ({"logprobs": 1}, "logprobs"),
            ({"response_format": ResponseFormat(type="json_object")}, "JSON mode"),
            ({"messages": [ChatMessage.model_validate({"role": "system", "content": [IMAGE]})]}, "system message"),
        ],
    )
    def test_unsupported_features_are_refused(self, fields: dict[str, Any], feature: str) -> None:
        with pytest.raises(Invalid, match=f"Anthropic cannot do .*{feature}"):
            Providers({"ANTHROPIC_API_KEY": "sk"}, None).prepare(with_fields(chat(), **fields), {})


class TestResponse:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_call"),
            ("pause_turn", "stop"),
            ("refusal", "stop"),
            ("whatever", "stop"),
            (None, "stop"),
        ],
    )
    def test_finish_reasons(self, theirs: str | None, ours: str) -> None:
        assert anthropic.read_response(chat(), {"content": [], "stop_reason": theirs}).choices[0].finish_reason == ours

    def test_text_and_tool_calls_are_read_and_other_blocks_are_not(self) -> None:
        blocks = [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "a "},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"å": 1}},
        ]
        read = anthropic.read_response(chat(), {"content": blocks, "stop_reason": "tool_use"})
        (choice,) = read.choices
        assert (choice.text, read.usage) == ("a b", None)
        assert [(call.id, call.function.name, call.function.arguments) for call in choice.tool_calls or ()] == [
            ("t", "f", '{"å": 1}')
        ]

    def test_cached_tokens_count_as_prompt_tokens(self) -> None:
        usage = {
            "input_tokens": 1,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 300,
            "output_tokens": 4,
        }
        read = anthropic.read_response(chat(), {"content": [], "stop_reason": "end_turn", "usage": usage})
        assert read.usage == Usage(
            prompt_tokens=321, generation_tokens=4, total_tokens=325, cached_tokens=300, cache_write_tokens=20
        )

    @pytest.mark.parametrize("reply", [{}, [], None, "text", {"content": None}])
    def test_json_of_another_form_raises(self, reply: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            anthropic.read_response(chat(), reply)

    def test_a_refusal_is_marked_whole_and_streamed(self) -> None:
        reply = {"content": [{"type": "text", "text": "I will not."}], "stop_reason": "refusal"}
        (choice,) = anthropic.read_response(chat(), reply).choices
        assert (choice.text, choice.finish_reason, choice.refusal) == ("I will not.", "stop", "refusal")
        accumulator = StreamAccumulator()
        accumulator.add(ResponseDelta(text="I will not."))
        accumulator.add(anthropic.read_event(chat(), {"type": "message_delta", "delta": {"stop_reason": "refusal"}}))
        assert accumulator.choice() == choice
        assert anthropic.write_response(chat(), accumulator)["stop_reason"] == "refusal"

    def test_a_history_with_calls_has_tools_that_may_not_be_called(self) -> None:
        calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        said = ChatMessage.model_validate({"role": "assistant", "content": "", "tool_calls": calls})
        answered = ChatMessage(role="tool", content="1", tool_call_id="c")
        sent = anthropic.body(with_fields(chat(), messages=[said, answered]))
        schema = {"type": "object", "additionalProperties": True}
        assert sent["tools"] == [{"name": "f", "input_schema": schema}]
        assert sent["tool_choice"] == {"type": "none"}


class TestEvents:
    def test_message_start_has_id_and_prompt_tokens(self) -> None:
        message: dict[str, Any] = {"id": "i", "type": "message", "role": "assistant", "model": "m", "content": []}
        usage = {"input_tokens": 9, "output_tokens": 1}
        chunk = anthropic.read_event(chat(), {"type": "message_start", "message": message | {"usage": usage}})
        assert chunk.response_fields == {"id": "i", "type": "message", "role": "assistant", "model": "m"}
        assert chunk.usage == Usage(prompt_tokens=9, generation_tokens=1, total_tokens=10)

    def test_message_delta_has_finish_reason_and_output_tokens(self) -> None:
        accumulator = StreamAccumulator()
        for event in (
            {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "max_tokens"},
                "usage": {"output_tokens": 30, "cache_read_input_tokens": 5},
            },
        ):
            accumulator.add(anthropic.read_event(chat(), event))
        assert accumulator.usage == Usage(prompt_tokens=9, generation_tokens=30, total_tokens=39)
        assert accumulator.finish_reason == "length"

    def test_tool_calls_are_indexed_by_block(self) -> None:
        start = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
        begun = anthropic.read_event(chat(), {"type": "content_block_start", "index": 2, "content_block": start})
        assert begun == ResponseDelta(tool_calls=(ToolCallPart(2, id="t", name="f"),))
        delta = {"type": "input_json_delta", "partial_json": '{"a'}
        more = anthropic.read_event(chat(), {"type": "content_block_delta", "index": 2, "delta": delta})
        assert more == ResponseDelta(tool_calls=(ToolCallPart(2, arguments='{"a'),))

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "ping"},
            {"type": "of the future"},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        ],
    )
    def test_other_events_give_an_empty_delta(self, event: Any) -> None:
        assert anthropic.read_event(chat(), event) == ResponseDelta()

    @pytest.mark.parametrize("event", [{}, [], None, {"type": "content_block_delta"}, {"type": "message_start"}])
    def test_json_of_another_form_gives_an_empty_delta(self, event: Any) -> None:
        assert anthropic.read_event(chat(), event) == ResponseDelta()

    @given(
        st.lists(st.text()),
        st.sampled_from(["stop", "length", "tool_call", None]),
        st.dictionaries(st.text(), st.integers() | st.text()),
        st.booleans(),
    )
    def test_an_accumulated_stream_reads_like_a_response(
        self, pieces: list[str], reason: Any, given_: dict[str, Any], cut: bool
    ) -> None:
        text = json.dumps(given_, ensure_ascii=False)
        accumulator = StreamAccumulator()
        for piece in pieces:
            accumulator.add(ResponseDelta(text=piece, response_fields={"id": "x"}))
        accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(1, "c", "f", text[: 1 if cut else None]),)))
        usage = {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 7, "service_tier": "standard"}
        accumulator.add(anthropic.read_event(chat(), {"type": "message_delta", "usage": usage}))
        accumulator.add(ResponseDelta(finish_reason=reason))
        read = anthropic.read_response(chat(), anthropic.write_response(chat(), accumulator))
        expected = accumulator.choice()
        (choice,) = read.choices
        assert (choice.text, choice.tool_calls) == (expected.text, expected.tool_calls)
        assert choice.finish_reason == (expected.finish_reason or "tool_call")
        assert read.usage == accumulator.usage
        assert read.raw["usage"] == usage


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "m"),
        ({"type": "error", "error": {"type": "api_error"}}, "api_error"),
        ({"error": "m"}, "m"),
        ({"type": "message_stop"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_error_messages_are_found(payload: Any, detail: str | None) -> None:
    told = anthropic.read_error(payload)
    assert (told and told.detail) == detail

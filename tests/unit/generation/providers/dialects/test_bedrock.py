"""The wire language of AWS Bedrock's Converse API, with plain dicts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import ModelRequest, ResponseDelta, StreamAccumulator, ToolCallPart
from services.generation.providers.dialects import bedrock
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage, ResponseFormat, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Unauthenticated

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(*messages: Any, **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"provider": "bedrock", "model": "a.b-v1:0", "endpoint": "chat"} | fields)
    said = messages or ({"role": "user", "content": "hi"},)
    return ModelRequest(config, [ChatMessage.model_validate(one) for one in said])


def with_fields(request: ModelRequest, **fields: Any) -> ModelRequest:
    return ModelRequest(**{**vars(request), **fields})


def image(url: str) -> Any:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


class TestBody:
    def test_the_temperature_is_always_sent(self) -> None:
        assert bedrock.body(chat()) == {
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
            "inferenceConfig": {"temperature": 1},
        }

    def test_other_fields_are_sent_only_if_they_are_set(self) -> None:
        sent = bedrock.body(chat({"role": "system", "content": "s"}, {"role": "user", "content": "u"}, max_tokens=0))
        assert sent["system"] == [{"text": "s"}]
        assert sent["inferenceConfig"] == {"temperature": 1, "maxTokens": 0}
        assert bedrock.body(chat(stop="x"))["inferenceConfig"] == {"temperature": 1, "stopSequences": ["x"]}
        more = {"inferenceConfig": {"topP": 0.5}}
        assert bedrock.body(chat(stop="x", max_tokens=9, other=more))["inferenceConfig"] == {
            "temperature": 1,
            "maxTokens": 9,
            "stopSequences": ["x"],
            "topP": 0.5,
        }

    def test_other_goes_to_the_model_except_converses_own_fields(self) -> None:
        other = {"top_k": 3, "serviceTier": {"type": "flex"}, "messages": [], "modelId": "x", "system": []}
        sent = bedrock.body(chat(other=other))
        assert sent["additionalModelRequestFields"] == {"top_k": 3}
        assert sent["serviceTier"] == {"type": "flex"}
        assert sent["messages"]
        assert not {"system", "modelId"} & set(sent)

    def test_tool_choice_none_is_refused_once_there_are_calls(self) -> None:
        tools = [{"name": "f"}]
        plain, later = chat(tools=tools), chat({"role": "assistant", "tool_calls": [CALL]}, tools=tools)
        assert "toolConfig" in bedrock.body(plain)
        assert "toolConfig" not in bedrock.body(with_fields(plain, tool_choice="none"))
        with pytest.raises(Invalid, match="tool_choice"):
            bedrock.body(with_fields(later, tool_choice="none"))

    def test_tool_results_may_be_empty(self) -> None:
        sent = bedrock.body(chat({"role": "tool", "tool_call_id": "1", "content": ""}))
        assert sent["messages"] == [{"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": []}}]}]

    def test_image_data_is_not_decoded(self) -> None:
        sent = bedrock.body(chat(image("data:image/webp;base64,@image-0@")))
        assert sent["messages"][0]["content"] == [{"image": {"format": "webp", "source": {"bytes": "@image-0@"}}}]

    @pytest.mark.parametrize("url", ["https://x/y.png", "data:image/tiff;base64,AAAA"])
    def test_unsupported_images_are_refused(self, url: str) -> None:
        with pytest.raises(Invalid, match="image/png"):
            bedrock.body(chat(image(url)))

    def test_an_image_in_an_assistant_message_is_refused(self) -> None:
        with pytest.raises(Invalid, match="user message"):
            bedrock.body(chat(image("data:image/png;base64,A") | {"role": "assistant"}))

    @pytest.mark.parametrize("user", ["Zoë", "a" * 257, "a;b"])
    def test_invalid_users_are_refused(self, user: str) -> None:
        with pytest.raises(Invalid, match="user"):
            bedrock.body(with_fields(chat(), user=user))

    def test_a_schema_is_sent_as_text(self) -> None:
        response_format = ResponseFormat(type="json_schema", json_schema={"name": "n", "schema": {"type": "object"}})
        sent = bedrock.body(with_fields(chat(), response_format=response_format))
        assert sent["outputConfig"]["textFormat"] == {
            "type": "json_schema",
            "structure": {"jsonSchema": {"name": "n", "schema": '{"type": "object"}'}},
        }


class TestUrlAndKey:
    def test_the_model_is_in_the_path(self) -> None:
        assert bedrock.url("http://x", chat()) == "http://x/model/a.b-v1%3A0/converse"
        arn = chat(model="arn:aws:bedrock:eu-west-1:1:inference-profile/p")
        assert bedrock.url("http://x", with_fields(arn, stream=True)) == (
            "http://x/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fp/converse-stream"
        )

    def test_an_api_key_is_a_bearer_token_and_an_access_key_is_not_sent(self) -> None:
        assert bedrock.headers("ABSKx") == {"Authorization": "Bearer ABSKx"}
        assert bedrock.headers("AKIA:secret") == {}
        assert bedrock.headers(None) == {}

    def test_region_and_key_come_from_the_environment(self) -> None:
        environment = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
        (call,) = Providers(environment, None).prepare(chat(), {})
        assert call.url.startswith("https://bedrock-runtime.eu-west-1.amazonaws.com/model/")
        assert call.key == "AKIA:secret"
        assert "secret" not in repr(call)
        with pytest.raises(Unauthenticated, match=r"provider_api_keys\.bedrock .* AWS_BEARER_TOKEN_BEDROCK"):
            Providers({"AWS_ACCESS_KEY_ID": "AKIA"}, None).prepare(chat(), {})


class TestResponse:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_call"),
            ("content_filtered", "stop"),
            ("guardrail_intervened", "stop"),
            ("malformed_tool_use", "stop"),
            ("whatever", "stop"),
            (None, "stop"),
        ],
    )
    def test_finish_reasons(self, theirs: str | None, ours: str) -> None:
        reply: dict[str, Any] = {"output": {"message": {"content": []}}, "stopReason": theirs}
        assert bedrock.read_response(chat(), reply).choices[0].finish_reason == ours

    def test_text_and_tool_calls_are_read_and_other_blocks_are_not(self) -> None:
        blocks = [
            {"reasoningContent": {"reasoningText": {"text": "hm"}}},
            {"text": "a "},
            {"text": "b"},
            {"toolUse": {"toolUseId": "t", "name": "f", "input": {"å": 1}}},
        ]
        usage = {"inputTokens": 1, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 300, "outputTokens": 4}
        reply = {"output": {"message": {"content": blocks}}, "stopReason": "tool_use", "usage": usage}
        read = bedrock.read_response(chat(), reply)
        (choice,) = read.choices
        assert choice.text == "a b"
        assert [(call.id, call.function.name, call.function.arguments) for call in choice.tool_calls or ()] == [
            ("t", "f", '{"å": 1}')
        ]
        assert read.usage == Usage(
            prompt_tokens=321, generation_tokens=4, total_tokens=325, cached_tokens=20, cache_write_tokens=300
        )

    @pytest.mark.parametrize("reply", [{}, [], None, "text", {"output": None}, {"output": {"message": {}}}])
    def test_json_of_another_form_raises(self, reply: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            bedrock.read_response(chat(), reply)

    @pytest.mark.parametrize("reason", ["guardrail_intervened", "content_filtered"])
    def test_a_filtered_answer_is_marked_whole_and_streamed(self, reason: str) -> None:
        reply = {"output": {"message": {"content": [{"text": "Blocked."}]}}, "stopReason": reason}
        (choice,) = bedrock.read_response(chat(), reply).choices
        assert (choice.text, choice.finish_reason, choice.refusal) == ("Blocked.", "stop", reason)
        accumulator = StreamAccumulator()
        accumulator.add(ResponseDelta(text="Blocked."))
        accumulator.add(bedrock.read_event(chat(), {"messageStop": {"stopReason": reason}}))
        assert accumulator.choice() == choice
        assert bedrock.write_response(chat(), accumulator)["stopReason"] == reason

    @pytest.mark.parametrize("tool_choice", [None, "none", "auto"])
    def test_a_history_with_calls_has_a_tool_config(self, tool_choice: Any) -> None:
        calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        said = ChatMessage.model_validate({"role": "assistant", "content": "", "tool_calls": calls})
        answered = ChatMessage(role="tool", content="1", tool_call_id="c")
        request = ModelRequest(chat().config, [said, answered], tool_choice=tool_choice)
        schema = {"json": {"type": "object", "additionalProperties": True}}
        assert bedrock.body(request)["toolConfig"] == {"tools": [{"toolSpec": {"name": "f", "inputSchema": schema}}]}


class TestEvents:
    @pytest.mark.parametrize(
        ("event", "chunk"),
        [
            (
                {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "a"}, "p": "abc"}},
                ResponseDelta(text="a"),
            ),
            (
                {
                    "contentBlockStart": {
                        "contentBlockIndex": 1,
                        "start": {"toolUse": {"toolUseId": "t", "name": "f"}},
                    }
                },
                ResponseDelta(tool_calls=(ToolCallPart(1, id="t", name="f"),)),
            ),
            (
                {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{"}}}},
                ResponseDelta(tool_calls=(ToolCallPart(1, arguments="{"),)),
            ),
            ({"messageStop": {"stopReason": "tool_use"}}, ResponseDelta(finish_reason="tool_call", is_last=True)),
            (
                {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}}},
                ResponseDelta(
                    usage=Usage(prompt_tokens=1, generation_tokens=2, total_tokens=3),
                    raw_usage={"inputTokens": 1, "outputTokens": 2},
                ),
            ),
            ({"messageStart": {"role": "assistant"}}, ResponseDelta()),
            ({"contentBlockStop": {"contentBlockIndex": 0}}, ResponseDelta()),
            (
                {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}},
                ResponseDelta(),
            ),
            ({"contentBlockStart": {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}}}, ResponseDelta()),
            ({"messageStop": {}}, ResponseDelta(is_last=True)),
            ({"ofTheFuture": {}}, ResponseDelta()),
        ],
    )
    def test_each_event_type(self, event: Any, chunk: ResponseDelta) -> None:
        assert bedrock.read_event(chat(), event) == chunk

    @pytest.mark.parametrize("event", [{}, [], None, {"a": 1, "b": 2}, {"contentBlockDelta": {}}])
    def test_json_of_another_form_gives_an_empty_delta(self, event: Any) -> None:
        assert bedrock.read_event(chat(), event) == ResponseDelta()

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
            accumulator.add(ResponseDelta(text=piece))
        accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(1, "c", "f", text[: 1 if cut else None]),)))
        accumulator.add(ResponseDelta(finish_reason=reason))
        usage = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 7}
        accumulator.add(bedrock.read_event(chat(), {"metadata": {"usage": usage}}))
        read = bedrock.read_response(chat(), bedrock.write_response(chat(), accumulator))
        expected = accumulator.choice()
        (choice,) = read.choices
        assert (choice.text, choice.tool_calls) == (expected.text, expected.tool_calls)
        assert choice.finish_reason == (expected.finish_reason or "tool_call")
        assert read.usage == accumulator.usage
        assert read.raw["usage"] == usage


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"message": "m"}, "m"),
        ({"Message": "m"}, "m"),
        ({"exception": {"type": "throttlingException", "payload": '{"message": "m"}'}}, "m"),
        ({"exception": {"type": "throttlingException", "payload": "{}"}}, "throttlingException"),
        ({"exception": {"type": "InternalError", "payload": "it broke"}}, "it broke"),
        ({"exception": {"type": "InternalError", "payload": ""}}, "InternalError"),
        ({"messageStop": {"stopReason": "end_turn"}}, None),
        ({"output": {"message": {"content": []}}}, None),
        ({}, None),
        ([], None),
    ],
)
def test_error_messages_are_found(payload: Any, detail: str | None) -> None:
    told = bedrock.read_error(payload)
    assert (told and told.detail) == detail

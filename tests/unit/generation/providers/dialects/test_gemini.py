"""The wire language of Gemini, with plain dicts. Comparisons with Google's own client are in `tests/contract`."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import Choice, ModelRequest, ResponseDelta, StreamAccumulator, ToolCallPart
from services.generation.providers import errors
from services.generation.providers.dialects import gemini
from services.generation.providers.requests import Providers
from shared.contracts.chat import ChatMessage, FinishReason, ToolCall, Usage
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid, Problem, UpstreamFailed

USER = {"role": "user", "content": "hi"}


def chat(*messages: dict[str, Any], **fields: Any) -> ModelRequest:
    config = ModelConfig.model_validate({"model": "gemini-2.5-flash", "endpoint": "chat"} | fields)
    return ModelRequest(config, [ChatMessage.model_validate(message) for message in messages or (USER,)])


def call(call_id: str, arguments: str | None = "{}", name: str = "f") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(*calls: dict[str, Any], content: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(call_id: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def contents(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = gemini.body(chat(*messages, **fields))["contents"]
    return sent


class TestUrl:
    @pytest.mark.parametrize(
        ("model", "path"),
        [
            ("gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("models/gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("tunedModels/mine-1", "tunedModels/mine-1"),
            ("a?b#c", "models/a%3Fb%23c"),
        ],
    )
    def test_the_model_is_in_the_path(self, model: str, path: str) -> None:
        assert gemini.url("http://x/v1beta", chat(model=model)) == f"http://x/v1beta/{path}:generateContent"

    @pytest.mark.parametrize(
        "model",
        [
            *("../files", "models/../../x", "models/..", "..", ".", "", "/", "a/b", "models/a/b", "tunedModels/"),
            *("/models/a", "a?b#c", "m:countTokens", "publishers/x", "models\\a", "a b", "%2e%2e", "modèle"),
        ],
    )
    def test_a_name_that_leads_elsewhere_is_refused(self, model: str) -> None:
        config = ModelConfig(provider="google", model=model, endpoint="chat")
        request = ModelRequest(config, messages=[ChatMessage(role="user", content="hi")])
        with pytest.raises(Invalid, match="is not a model of Google"):
            Providers({"GEMINI_API_KEY": "k"}, None).prepare(request, {})

    def test_no_key_no_header(self) -> None:
        assert gemini.headers(None) == {}
        assert gemini.headers("k") == {"x-goog-api-key": "k"}


class TestBody:
    def test_unset_fields_are_left_out(self) -> None:
        assert gemini.body(chat()) == {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"temperature": 1, "topP": 1},
        }

    def test_other_is_merged_at_the_top_and_into_generation_config(self) -> None:
        other = {
            "generationConfig": {"temperature": 0.1, "candidateCount": 4, "topK": 2},
            "cachedContent": "c",
            "contents": [],
            "systemInstruction": "x",
        }
        sent = gemini.body(chat(other=other))
        assert sent["generationConfig"] == {"temperature": 0.1, "topP": 1, "topK": 2}
        assert sent["cachedContent"] == "c"
        assert sent["contents"]
        assert "systemInstruction" not in sent

    def test_a_generation_config_that_is_no_object_is_refused(self) -> None:
        with pytest.raises(Invalid, match=r"other\.generationConfig"):
            gemini.body(chat(other={"generationConfig": [1]}))

    def test_system_messages_alone_are_refused(self) -> None:
        with pytest.raises(Invalid, match="role 'user'"):
            gemini.body(chat({"role": "system", "content": "Be kind."}))

    @pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": ""}]])
    def test_an_empty_system_message_is_left_out(self, content: Any) -> None:
        assert "systemInstruction" not in gemini.body(chat({"role": "system", "content": content}, USER))

    @pytest.mark.parametrize("content", ["", None, []])
    def test_an_empty_message_has_an_empty_part(self, content: Any) -> None:
        assert contents({"role": "user", "content": content}) == [{"role": "user", "parts": [{"text": ""}]}]
        assert len(contents(USER, assistant(call("a")) | {"content": content})[1]["parts"]) == 1

    def test_a_linked_tool_is_refused_by_its_id(self) -> None:
        with pytest.raises(Invalid, match="oc_1"):
            gemini.body(chat(tools=[{"id": "oc_1", "source": "organization"}]))

    def test_without_tools_no_tool_config_is_sent(self) -> None:
        request = ModelRequest(ModelConfig(model="m"), [ChatMessage(role="user", content="hi")], tool_choice="none")
        assert "toolConfig" not in gemini.body(request)


class TestImages:
    @pytest.mark.parametrize(
        ("url", "data"),
        [
            ("data:image/png;base64,iVBORw==", {"mimeType": "image/png", "data": "iVBORw=="}),
            ("data:image/png;name=a.png;base64,iVBORw==", {"mimeType": "image/png", "data": "iVBORw=="}),
            ("DATA:image/jpeg;BASE64,%%blob:1%%", {"mimeType": "image/jpeg", "data": "%%blob:1%%"}),
        ],
    )
    def test_data_urls_are_inline_data(self, url: str, data: dict[str, str]) -> None:
        image = {"type": "image_url", "image_url": {"url": url}}
        assert contents({"role": "user", "content": [image]})[0]["parts"] == [{"inlineData": data}]

    @pytest.mark.parametrize("url", ["https://example.com/cat.png", "data:image/png,raw", "data:;base64,iVBORw=="])
    def test_other_urls_are_refused(self, url: str) -> None:
        with pytest.raises(Invalid, match=r"image_url\.url"):
            gemini.body(chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}))


class TestToolCalls:
    def test_the_function_of_a_result_is_that_of_the_newest_call_with_its_id(self) -> None:
        sent = contents(
            USER,
            assistant(call("call_0", name="f")),
            result("call_0"),
            assistant(call("call_0", name="g")),
            result("call_0"),
        )
        assert [part["functionResponse"]["name"] for content in sent[2::2] for part in content["parts"]] == ["f", "g"]

    def test_a_result_of_no_call_is_refused(self) -> None:
        with pytest.raises(Invalid, match="tool_call_id 'call_9'"):
            gemini.body(chat(USER, assistant(call("call_0")), result("call_9")))

    def test_the_deprecated_form_of_a_call(self) -> None:
        sent = contents(USER, {"role": "assistant", "tool_call": {"name": "f", "arguments": None}}, result("call_0"))
        assert sent[1]["parts"] == [{"functionCall": {"id": "call_0", "name": "f", "args": {}}}]
        assert sent[2]["parts"][0]["functionResponse"]["name"] == "f"

    def test_blank_arguments_are_none(self) -> None:
        sent = contents(USER, assistant(call("call_0", " ")))
        assert sent[1]["parts"][0]["functionCall"]["args"] == {}

    @pytest.mark.parametrize("arguments", ["{", "[1]", '"text"', '{"a": NaN}', '{"a": 1e999}', "[" * 10_000])
    def test_arguments_that_are_no_object_are_refused(self, arguments: str) -> None:
        with pytest.raises(Invalid, match="arguments of the tool call 'call_0'"):
            gemini.body(chat(USER, assistant(call("call_0", arguments))))

    @pytest.mark.parametrize(
        ("content", "response"),
        [
            ('{"a": 1}', {"a": 1}),
            ("wet", {"output": "wet"}),
            ("[1, 2]", {"output": "[1, 2]"}),
            ("", {"output": ""}),
            ([{"type": "text", "text": "{}"}], {}),
        ],
    )
    def test_a_result_that_is_no_object_is_wrapped(self, content: Any, response: dict[str, Any]) -> None:
        sent = contents(USER, assistant(call("call_0")), result("call_0", content))
        assert sent[2]["parts"] == [{"functionResponse": {"id": "call_0", "name": "f", "response": response}}]

    def test_images_of_a_result(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}
        sent = contents(USER, assistant(call("call_0")), result("call_0", [{"type": "text", "text": "seen"}, image]))
        assert sent[2]["parts"][0]["functionResponse"] == {
            "id": "call_0",
            "name": "f",
            "response": {"output": "seen"},
            "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}],
        }

    def test_a_result_and_the_next_question_are_two_messages(self) -> None:
        sent = contents(USER, assistant(call("a")), result("a"), USER)
        assert [content["role"] for content in sent] == ["user", "model", "user", "user"]

    @pytest.mark.parametrize(
        "model", ["gemini-3-pro-preview", "gemini-3.1-flash", "gemini-flash-latest", "models/gemini-4"]
    )
    def test_the_first_unsigned_call_of_a_message_gets_a_placeholder(self, model: str) -> None:
        sent = contents(
            USER, assistant(call("a"), call("b")), result("a"), result("b"), assistant(call("c~c2ln")), model=model
        )
        signatures = [part.get("thoughtSignature") for content in sent for part in content["parts"]]
        assert signatures == [None, "skip_thought_signature_validator", None, None, None, "c2ln"]

    @pytest.mark.parametrize("model", ["gemini-1.5-pro", "gemini-2.0-flash", "models/gemini-2.5-pro", "gemma-3-27b-it"])
    def test_older_models_get_no_signature(self, model: str) -> None:
        assert contents(USER, assistant(call("a")), model=model)[1]["parts"] == [
            {"functionCall": {"id": "a", "name": "f", "args": {}}}
        ]


class TestResponse:
    def test_thoughts_are_not_text_and_count_as_output_tokens(self) -> None:
        parts = [{"text": "hm", "thought": True}, {"text": "a"}, {"executableCode": {"code": "1"}}, {"text": "b"}]
        reply = {
            "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 1,
                "toolUsePromptTokenCount": 2,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 8,
                "totalTokenCount": 15,
            },
        }
        read = gemini.read_response(chat(), reply)
        assert read.choices == [Choice("ab", None, "stop")]
        assert read.usage == Usage(prompt_tokens=3, generation_tokens=12, total_tokens=15)
        assert read.raw is reply

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("STOP", "stop"),
            ("MAX_TOKENS", "length"),
            ("CONTINUATION", "length"),
            ("OTHER", "stop"),
            ("FINISH_REASON_UNSPECIFIED", "stop"),
            (None, "stop"),
        ],
    )
    def test_finish_reasons(self, theirs: str | None, ours: str) -> None:
        reply = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": theirs}]}
        assert gemini.read_response(chat(), reply).choices[0].finish_reason == ours

    @pytest.mark.parametrize(
        ("reason", "kind"),
        [
            ("SAFETY", Invalid),
            ("RECITATION", Invalid),
            ("PROHIBITED_CONTENT", Invalid),
            ("IMAGE_OTHER", Invalid),
            ("MISSING_THOUGHT_SIGNATURE", Invalid),
            ("MALFORMED_FUNCTION_CALL", UpstreamFailed),
            ("UNEXPECTED_TOOL_CALL", UpstreamFailed),
            ("MALFORMED_RESPONSE", UpstreamFailed),
        ],
    )
    def test_a_withheld_or_malformed_answer_is_an_error(self, reason: str, kind: type[Problem]) -> None:
        candidate = {"finishReason": reason, "finishMessage": "because."}
        counts = {"promptTokenCount": 9, "candidatesTokenCount": 4}
        reply = {"candidates": [candidate], "usageMetadata": counts}
        with pytest.raises(kind, match=rf"\({reason}\): because\.$") as caught:
            gemini.read_response(chat(), reply)
        assert caught.value.origin == "Google"
        assert errors.may_have_cost(caught.value)
        if kind is Invalid:  # in a stream it depends on what came before
            assert gemini.read_event(chat(), reply).withheld == f"withheld the answer ({reason}): because."
        else:
            with pytest.raises(kind, match=rf"\({reason}\): because\.$"):
                gemini.read_event(chat(), reply)

    def test_an_answer_that_was_cut_off_by_a_filter_is_marked(self) -> None:
        candidate = {"content": {"parts": [{"text": "Once"}]}, "finishReason": "SAFETY"}
        assert gemini.read_response(chat(), {"candidates": [candidate]}).choices == [
            Choice("Once", None, "stop", "SAFETY")
        ]

    def test_a_blocked_prompt_is_an_error(self) -> None:
        blocked = {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "not this."}}
        for read in (gemini.read_response, gemini.read_event):
            with pytest.raises(Invalid, match=r"blocked the prompt \(OTHER\): not this\.$") as caught:
                read(chat(), blocked)
            assert not errors.may_have_cost(caught.value)

    @pytest.mark.parametrize(
        "reply",
        [
            {},
            [],
            None,
            "text",
            {"candidates": [None]},
        ],
    )
    def test_json_of_another_form_raises(self, reply: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            gemini.read_response(chat(), reply)


class TestEvents:
    def test_events_become_deltas(self) -> None:
        event = {
            "candidates": [{"content": {"parts": [{"text": "a"}]}, "index": 0}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1},
            "modelVersion": "m",
            "responseId": "r",
        }
        assert gemini.read_event(chat(), event) == ResponseDelta(
            text="a",
            usage=Usage(prompt_tokens=3, generation_tokens=1, total_tokens=4),
            raw_usage={"promptTokenCount": 3, "candidatesTokenCount": 1},
            response_fields={"modelVersion": "m", "responseId": "r"},
        )
        assert gemini.read_event(chat(), {"usageMetadata": {"promptTokenCount": 3}}).finish_reason is None

    def test_calls_in_several_events_are_different_calls(self) -> None:
        accumulator = StreamAccumulator()
        for city in ("Oslo", "Bergen"):
            part = {"functionCall": {"name": "f", "args": {"city": city}}}
            accumulator.add(gemini.read_event(chat(), {"candidates": [{"content": {"parts": [part]}}]}))
        accumulator.add(gemini.read_event(chat(), {"candidates": [{"finishReason": "STOP"}]}))
        assert accumulator.choice() == Choice(
            "",
            [
                ToolCall.model_validate(call("", '{"city": "Oslo"}')),
                ToolCall.model_validate(call("", '{"city": "Bergen"}')),
            ],
            "tool_call",
        )

    @given(
        st.lists(st.text()),
        st.lists(
            st.tuples(
                st.none() | st.text("abc_01", min_size=1),
                st.text(min_size=1),
                st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
            )
        ),
        st.sampled_from(["stop", "length"]),
    )
    def test_an_accumulated_stream_reads_like_a_response(
        self, pieces: list[str], calls: list[tuple[str | None, str, dict[str, Any]]], reason: FinishReason
    ) -> None:
        accumulator = StreamAccumulator()
        for piece in pieces:
            accumulator.add(ResponseDelta(text=piece, response_fields={"responseId": "r"}))
        for own, name, arguments in calls:
            written = json.dumps(arguments, ensure_ascii=False)
            accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(None, own, name, written),)))
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "cachedContentTokenCount": 1}
        accumulator.add(gemini.read_event(chat(), {"usageMetadata": usage}))
        accumulator.add(ResponseDelta(finish_reason=reason))
        read = gemini.read_response(chat(), gemini.write_response(chat(), accumulator))
        assert read.choices == [accumulator.choice()]
        assert read.usage == accumulator.usage
        assert read.raw["usageMetadata"] == usage


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}, "m"),
        ([{"error": {"message": "m"}}], "m"),
        ({"error": "m"}, "m"),
        ({"candidates": []}, None),
        ({}, None),
        ([], None),
        ("text", None),
    ],
)
def test_error_messages_are_found(payload: Any, detail: str | None) -> None:
    told = gemini.read_error(payload)
    assert (told and told.detail) == detail

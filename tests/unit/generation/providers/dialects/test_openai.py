"""The wire language of OpenAI, with plain dicts."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.models.request import (
    Choice,
    Json,
    ModelRequest,
    ResponseDelta,
    StreamAccumulator,
    ToolCallPart,
)
from services.generation.providers.dialects import openai
from shared.contracts.chat import (
    ChatMessage,
    FunctionCall,
    FunctionChoice,
    FunctionName,
    ResponseFormat,
    ToolCall,
    Usage,
)
from shared.contracts.generation.projects import ModelConfig

USER = ChatMessage(role="user", content="hi")


def config(**fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"model": "gpt-4", "endpoint": "chat"} | fields)


def chat(config_: ModelConfig | None = None, **fields: Any) -> ModelRequest:
    return ModelRequest(config_ or config(), **{"messages": [USER]} | fields)


def completion(**fields: Any) -> ModelRequest:
    return ModelRequest(config(endpoint="complete"), **{"prompt": "once"} | fields)


class TestBody:
    def test_sampling_parameters_are_always_sent(self) -> None:
        assert openai.body(chat()) == {
            "model": "gpt-4",
            "messages": [{"role": "user", "content": "hi"}],
            "n": 1,
            "stream": False,
            "temperature": 1,
            "top_p": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
        }

    def test_other_fields_are_sent_only_if_they_are_set(self) -> None:
        config_ = config(max_tokens=5, stop=["x"], other={"logit_bias": {"1": -100}})
        sent = openai.body(
            chat(config_, seed=0, user="u", samples=3, response_format=ResponseFormat(type="json_object"))
        )
        assert sent["max_tokens"] == 5
        assert sent["stop"] == ["x"]
        assert sent["logit_bias"] == {"1": -100}
        assert (sent["seed"], sent["user"], sent["n"]) == (0, "u", 3)
        assert sent["response_format"] == {"type": "json_object"}

    def test_other_overrides_all_but_the_reserved_fields(self) -> None:
        config_ = config(
            other={"temperature": 0.2, "stream": True, "model": "x", "messages": [], "n": 9, "prompt": "x"}
        )
        sent = openai.body(chat(config_))
        assert (sent["temperature"], sent["stream"], sent["model"], sent["n"]) == (0.2, False, "gpt-4", 1)
        assert sent["messages"]
        assert "prompt" not in sent

    def test_tools_are_wrapped_and_chosen_automatically(self) -> None:
        config_ = config(tools=[{"name": "f", "parameters": {"a": None}, "source": "inline", "source_code": "x"}])
        sent = openai.body(chat(config_))
        assert sent["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {"a": None}}}]
        assert sent["tool_choice"] == "auto"
        assert openai.body(chat(config_, tool_choice="none"))["tool_choice"] == "none"
        named = FunctionChoice(function=FunctionName(name="f"))
        assert openai.body(chat(config_, tool_choice=named))["tool_choice"] == {
            "type": "function",
            "function": {"name": "f"},
        }

    @pytest.mark.parametrize("choice", ["none", "auto"])
    def test_without_tools_there_is_nothing_to_choose(self, choice: Literal["none", "auto"]) -> None:
        """OpenAI: "tool_choice is only allowed when tools are specified"."""
        assert "tool_choice" not in openai.body(chat(config(), tool_choice=choice))

    def test_a_stream_requests_its_usage(self) -> None:
        assert openai.body(chat(stream=True))["stream_options"] == {"include_usage": True}

    def test_a_message_is_sent_without_unset_fields(self) -> None:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        history = [
            ChatMessage.model_validate(
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [call],
                    "tool_call": {"name": "f", "arguments": "{}"},
                }
            ),
            ChatMessage(role="tool", content="wet", tool_call_id="call_1"),
            ChatMessage(role="assistant", content="done", tool_calls=[]),
            ChatMessage.model_validate(
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]}
            ),
        ]
        assert openai.body(chat(messages=history))["messages"] == [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "wet", "tool_call_id": "call_1"},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]},
        ]

    @pytest.mark.parametrize("arguments", [None, ""])
    def test_a_call_without_arguments_is_sent_with_none_in_an_object(self, arguments: str | None) -> None:
        call = ToolCall(id="c", function=FunctionCall(name="f", arguments=arguments))
        sent = openai.body(chat(messages=[ChatMessage(role="assistant", tool_calls=[call])]))
        assert sent["messages"][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}

    @pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
    @pytest.mark.parametrize("content", [None, "", []])
    def test_a_message_without_content_has_empty_text(self, role: Any, content: Any) -> None:
        (sent,) = openai.body(chat(messages=[ChatMessage(role=role, content=content)]))["messages"]
        assert sent == {"role": role, "content": ""}

    def test_the_deprecated_tool_call_is_sent_as_function_call(self) -> None:
        old = ChatMessage.model_validate({"role": "assistant", "content": "", "tool_call": {"name": "f"}})
        assert openai.body(chat(messages=[old]))["messages"] == [
            {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": ""}}
        ]

    def test_a_completion_has_its_own_url(self) -> None:
        request = completion(logprobs=3, suffix="end")
        sent = openai.body(request)
        assert openai.url("http://x/v1", request) == "http://x/v1/completions"
        assert (sent["prompt"], sent["logprobs"], sent["suffix"]) == ("once", 3, "end")
        assert "messages" not in sent
        assert openai.url("http://x/v1", chat()) == "http://x/v1/chat/completions"

    def test_a_chat_sends_top_logprobs(self) -> None:
        sent = openai.body(chat(logprobs=2))
        assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)

    def test_without_a_key_there_is_no_header(self) -> None:
        assert openai.headers(None) == {}
        assert openai.headers("k") == {"Authorization": "Bearer k"}


class TestResponse:
    def test_choices_in_their_order_and_usage(self) -> None:
        reply = {
            "choices": [
                {"index": 1, "message": {"content": " b "}, "finish_reason": "length"},
                {"index": 0, "message": {"content": None}, "finish_reason": "content_filter"},
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
        read = openai.read_response(chat(samples=2), reply)
        assert [(choice.text, choice.finish_reason) for choice in read.choices] == [("", "stop"), (" b ", "length")]
        assert read.usage == Usage(prompt_tokens=1, generation_tokens=2, total_tokens=3)
        assert read.raw is reply

    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("stop", "stop"),
            ("length", "length"),
            ("tool_calls", "tool_call"),
            ("function_call", "tool_call"),
            ("model_length", "length"),
            ("MAX_TOKENS", "length"),
            ("content_filter", "stop"),
            ("whatever", "stop"),
            (None, "stop"),
        ],
    )
    def test_finish_reasons(self, theirs: str | None, ours: str) -> None:
        reply = {"choices": [{"text": "x", "finish_reason": theirs}]}
        assert openai.read_response(completion(), reply).choices[0].finish_reason == ours

    def test_tool_calls(self) -> None:
        calls = [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}},
            {"function": {"name": "g"}},
        ]
        reply = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
        read = openai.read_response(chat(), reply).choices[0].tool_calls or []
        assert [(call.id, call.function.name, call.function.arguments) for call in read] == [
            ("c", "f", "{"),
            ("", "g", None),
        ]

    def test_thinking_is_not_part_of_the_text(self) -> None:
        content = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "Yes."}]
        assert openai.read_response(chat(), {"choices": [{"message": {"content": content}}]}).choices[0].text == "Yes."
        assert openai.read_event(chat(), {"choices": [{"delta": {"content": content}}]}).text == "Yes."

    @pytest.mark.parametrize("reply", [{}, [], None, {"choices": [{}]}, {"choices": [{"message": None}]}, "text"])
    def test_json_of_another_form_raises(self, reply: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            openai.read_response(chat(), reply)

    def test_the_deprecated_form_of_a_call(self) -> None:
        said = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
        reply = {"choices": [{"message": said, "finish_reason": "function_call"}]}
        (choice,) = openai.read_response(chat(), reply).choices
        assert [(call.id, call.function.name) for call in choice.tool_calls or ()] == [("", "f")]
        parts = openai.read_event(chat(), {"choices": [{"delta": said}]}).tool_calls
        assert parts == (ToolCallPart(0, name="f", arguments="{}"),)

    @pytest.mark.parametrize(
        ("message", "text", "refusal"),
        [
            ({"content": None, "refusal": "No."}, "No.", "refusal"),
            ({"content": [{"type": "refusal", "refusal": "No."}]}, "No.", "refusal"),
            ({"content": "Well. ", "refusal": "No."}, "Well. No.", "refusal"),
            ({"content": "Yes.", "refusal": None}, "Yes.", None),
        ],
    )
    def test_a_refusal_is_the_text_and_marked(self, message: Json, text: str, refusal: str | None) -> None:
        reply = {"choices": [{"message": message, "finish_reason": "stop"}]}
        assert openai.read_response(chat(), reply).choices == [Choice(text, None, "stop", refusal)]
        accumulator = StreamAccumulator()
        for choice in ({"delta": message}, {"delta": {}, "finish_reason": "stop"}):
            accumulator.add(openai.read_event(chat(), {"choices": [choice]}))
        assert accumulator.choice() == Choice(text, None, "stop", refusal)
        written = openai.write_response(chat(), accumulator)
        assert openai.read_response(chat(), written).choices == [accumulator.choice()]
        assert written["choices"][0]["message"].get("refusal") == (text if refusal else None)

    @pytest.mark.parametrize("name", ["message", "delta"])
    @pytest.mark.parametrize("said", [{"content": "yes"}, {"text": "yes"}, "yes"])
    def test_a_message_and_a_piece_of_one_are_read_under_either_name(self, name: str, said: Any) -> None:
        reply = {"choices": [{"index": 0, name: said, "finish_reason": "stop"}]}
        assert openai.read_response(chat(), reply).choices[0].text == "yes"
        assert openai.read_event(chat(), reply).text == "yes"

    @pytest.mark.parametrize("piece", [{"content": " it"}, {"role": "assistant", "content": ""}, {}])
    def test_a_message_so_far_and_its_newest_piece_are_told_apart(self, piece: Json) -> None:
        reply = {"choices": [{"index": 0, "message": {"content": "yes, it"}, "delta": piece}]}
        assert openai.read_event(chat(), reply).text == piece.get("content", "")
        assert openai.read_response(chat(), reply).choices[0].text == "yes, it"

    @pytest.mark.parametrize(
        "call",
        [
            {"id": "c", "name": "f", "arguments": {"a": 1}},
            {"id": "c", "type": "function", "function": "f", "arguments": '{"a": 1}'},
            {"id": "c", "function": [{"name": "f", "arguments": '{"a": 1}'}]},
        ],
    )
    def test_calls_in_other_forms(self, call: Json) -> None:
        (read,) = openai.read_response(chat(), {"choices": [{"message": {"tool_calls": [call]}}]}).choices
        assert read.tool_calls == [ToolCall(id="c", function=FunctionCall(name="f", arguments='{"a": 1}'))]
        (part,) = openai.read_event(chat(), {"choices": [{"delta": {"tool_calls": [call]}}]}).tool_calls
        assert (part.id, part.name, part.arguments or part.default_arguments) == ("c", "f", '{"a": 1}')

    @pytest.mark.parametrize(
        "odd", [{"tool_calls": {}}, {"tool_calls": [{}]}, {"function_call": {}}, {"function_call": {"name": None}}]
    )
    def test_a_call_without_a_name_is_none(self, odd: Json) -> None:
        reply = {"choices": [{"message": {"content": "yes"} | odd, "finish_reason": "stop"}]}
        assert openai.read_response(chat(), reply).choices == [Choice("yes", None, "stop")]

    @pytest.mark.parametrize("refusal", [False, True, 0, {}, [], ""])
    def test_a_refusal_without_words_is_none(self, refusal: Any) -> None:
        reply = {"choices": [{"message": {"content": "yes", "refusal": refusal}}]}
        assert openai.read_response(chat(), reply).choices == [Choice("yes", None, "stop")]

    def test_a_refusal_that_is_the_content_as_well_stands_once(self) -> None:
        reply = {"choices": [{"message": {"content": "no", "refusal": "no"}}]}
        assert openai.read_response(chat(), reply).choices == [Choice("no", None, "stop", "refusal")]

    def test_arguments_that_are_an_object_are_replaced_by_the_pieces_that_follow(self) -> None:
        accumulator = StreamAccumulator()
        functions: list[Json] = [{"name": "f", "arguments": {}}, {"arguments": '{"a": '}, {"arguments": "1}"}]
        for function in functions:
            call = {"index": 0, "id": "c", "function": function}
            accumulator.add(openai.read_event(chat(), {"choices": [{"delta": {"tool_calls": [call]}}]}))
        (read,) = accumulator.choice().tool_calls or []
        assert read.function.arguments == '{"a": 1}'

    def test_usage_under_the_names_of_the_newer_api(self) -> None:
        usage = {"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}
        assert openai.read_usage({"usage": usage}) == Usage(
            prompt_tokens=9, generation_tokens=5, total_tokens=14, cached_tokens=4
        )

    def test_an_answer_that_a_filter_cut_off_is_marked(self) -> None:
        reply = {"choices": [{"message": {"content": "Once"}, "finish_reason": "content_filter"}]}
        assert openai.read_response(chat(), reply).choices == [Choice("Once", None, "stop", "content_filter")]


class TestEvents:
    def test_usage_inside_a_choice(self) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_cache_hit_tokens": 1}
        delta = openai.read_event(chat(), {"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage}]})
        assert delta.usage == Usage(prompt_tokens=1, generation_tokens=2, total_tokens=3, cached_tokens=1)
        assert delta.raw_usage == usage

    def test_text(self) -> None:
        event = {"id": "i", "model": "m", "object": "chat.completion.chunk", "choices": [{"delta": {"content": "a"}}]}
        assert openai.read_event(chat(), event) == ResponseDelta(text="a", response_fields={"id": "i", "model": "m"})
        assert openai.read_event(completion(), {"choices": [{"text": "a"}]}) == ResponseDelta(text="a")

    def test_the_first_and_the_last(self) -> None:
        assert (
            openai.read_event(chat(), {"choices": [{"delta": {"role": "assistant", "content": None}}]})
            == ResponseDelta()
        )
        assert openai.read_event(chat(), {"choices": [{"finish_reason": "tool_calls"}]}).finish_reason == "tool_call"
        usage = {"prompt_tokens": 1, "completion_tokens": 2}
        assert openai.read_event(chat(), {"choices": [], "usage": usage}).usage == Usage(
            prompt_tokens=1, generation_tokens=2, total_tokens=3
        )

    def test_parts_of_tool_calls(self) -> None:
        parts = [{"index": 1, "id": "c", "function": {"name": "f"}}, {"function": {"arguments": "{"}}]
        assert openai.read_event(chat(), {"choices": [{"delta": {"tool_calls": parts}}]}).tool_calls == (
            ToolCallPart(1, id="c", name="f"),
            ToolCallPart(1, arguments="{"),
        )

    @given(st.lists(st.text(), min_size=1), st.sampled_from(["stop", "length", "tool_call"]), st.booleans())
    def test_an_accumulated_stream_reads_like_a_response(self, pieces: list[str], reason: Any, is_chat: bool) -> None:
        request = chat() if is_chat else completion()
        accumulator = StreamAccumulator()
        for piece in pieces:
            accumulator.add(ResponseDelta(text=piece, response_fields={"id": "x"}))
        if is_chat:
            accumulator.add(ResponseDelta(tool_calls=(ToolCallPart(0, "c", "f", "{}"),)))
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
        accumulator.add(openai.read_event(request, {"choices": [], "usage": usage}))
        accumulator.add(ResponseDelta(finish_reason=reason))
        read = openai.read_response(request, openai.write_response(request, accumulator))
        assert read.choices == [accumulator.choice()]
        assert read.usage == accumulator.usage
        assert read.raw["usage"] == usage


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"message": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": [{"msg": "m"}]}, '[{"msg": "m"}]'),
        ({"success": False, "errors": [{"code": 7, "message": "m"}]}, '[{"code": 7, "message": "m"}]'),
        ({"object": "error", "message": {"detail": ["m"]}}, '{"detail": ["m"]}'),
        ([{"error": {"message": "m"}}], "m"),
        ([{"choices": [], "message": "m"}], None),
        ({"message": {"role": "assistant", "content": "m"}, "done": False}, None),
        ({"errors": [], "detail": None}, None),
        ({"choices": [], "error": None}, None),
        ({}, None),
        ([], None),
    ],
)
def test_error_messages_are_found(payload: Any, detail: str | None) -> None:
    told = openai.read_error(payload)
    assert (told and told.detail) == detail


def test_log_probabilities_of_a_stream_are_in_its_response() -> None:
    request, accumulator = completion(stream=True, logprobs=1), StreamAccumulator()
    for text, offset in (("Hi", 0), ("!", 2)):
        logprobs = {"tokens": [text], "token_logprobs": [-0.1], "top_logprobs": [{text: -0.1}], "text_offset": [offset]}
        event = {"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": None}]}
        accumulator.add(openai.read_event(request, event))
    accumulator.add(openai.read_event(request, {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}))
    (choice,) = openai.write_response(request, accumulator)["choices"]
    assert choice["logprobs"]["tokens"] == ["Hi", "!"]
    assert choice["logprobs"]["text_offset"] == [0, 2]


def test_an_empty_finish_reason_is_none() -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": ""}]}
    assert openai.read_event(chat(stream=True), event).finish_reason is None


def test_choices_without_an_index_keep_their_order() -> None:
    choices = [{"index": None, "message": {"content": text}, "finish_reason": "stop"} for text in "ab"]
    assert [choice.text for choice in openai.read_response(chat(), {"choices": choices}).choices] == ["a", "b"]

"""Conversations for dialects with two alternating roles."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from services.generation.models.request import Json, ModelRequest
from services.generation.providers.dialects.alternating_messages import (
    AlternatingMessage,
    alternate,
    content_parts,
    parameters_schema,
    parse_data_url,
    response_schema,
    tool_arguments,
    tool_calls,
    tool_definitions,
    tool_input,
)
from shared.contracts.chat import ChatMessage, FunctionCall, Image, ImageUrl, InlineTool, LinkedTool, Text, ToolCall
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid


def request(messages: list[ChatMessage] | None = None, **config: Any) -> ModelRequest:
    return ModelRequest(ModelConfig(model="m", **config), messages=messages or [])


def message(role: Any, content: Any = None, **fields: Any) -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": content} | fields)


def blocks(message_: ChatMessage) -> list[Json]:
    return [{"message_": part.text} for part in content_parts(message_) if isinstance(part, Text)]


def test_system_messages_are_separated_in_order() -> None:
    conversation = [message("user", "a"), message("system", "one"), message("assistant", "b"), message("system", "two")]
    assert alternate(conversation, blocks) == (
        "one\n\ntwo",
        [AlternatingMessage("user", [{"message_": "a"}]), AlternatingMessage("assistant", [{"message_": "b"}])],
    )


def test_consecutive_messages_are_merged_and_tool_results_are_the_users() -> None:
    conversation = [
        message("user", "a"),
        message("assistant", "b"),
        message("tool", "c", tool_call_id="1"),
        message("tool", "d", tool_call_id="2"),
        message("user", "e"),
    ]
    _, turns = alternate(conversation, blocks)
    assert [(turn.role, [block["message_"] for block in turn.blocks]) for turn in turns] == [
        ("user", ["a"]),
        ("assistant", ["b"]),
        ("user", ["c", "d", "e"]),
    ]


def test_results_of_tools_come_before_what_the_user_said_meanwhile() -> None:
    conversation = [
        message("user", "a"),
        message("assistant", "b"),
        message("user", "are you there?"),
        message("tool", "c", tool_call_id="1"),
        message("user", "hello?"),
        message("tool", "d", tool_call_id="2"),
        message("assistant", "e"),
        message("tool", "f", tool_call_id="3"),
    ]
    _, turns = alternate(conversation, blocks)
    said = [[block["message_"] for block in turn.blocks] for turn in turns]
    assert said == [["a"], ["b"], ["c", "d", "are you there?", "hello?"], ["e"], ["f"]]


def test_empty_messages_are_left_out() -> None:
    conversation = [message("user", "a"), message("assistant", " \n"), message("user", None), message("user", "b")]
    assert alternate(conversation, blocks)[1] == [AlternatingMessage("user", [{"message_": "a"}, {"message_": "b"}])]


def test_system_messages_alone_become_a_user_message() -> None:
    alone = [message("system", "Write a poem."), message("user", "")]
    assert alternate(alone, blocks) == ("", [AlternatingMessage("user", [{"message_": "Write a poem."}])])


@pytest.mark.parametrize("conversation", [[], [message("user", "")], [message("system", " ")]])
def test_an_empty_conversation_is_refused(conversation: list[ChatMessage]) -> None:
    with pytest.raises(Invalid, match="messages"):
        alternate(conversation, blocks)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=3))))
def test_roles_alternate_and_no_block_is_lost(message_: list[tuple[str, str]]) -> None:
    conversation = [message("user", "start"), *(message(role, content) for role, content in message_)]
    _, turns = alternate(conversation, blocks)
    assert all(one.role != other.role for one, other in pairwise(turns))
    spoken = ["start", *(content for role, content in message_ if role != "system" and content.strip())]
    assert [block["message_"] for turn in turns for block in turn.blocks] == spoken


def test_parts_with_blank_text_are_left_out() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    message_ = message("user", [{"type": "text", "text": ""}, image, {"type": "text", "text": " a "}])
    assert content_parts(message_) == [Image(image_url=ImageUrl(url="https://x/y.png")), Text(text=" a ")]


def test_a_deprecated_call_without_an_id_is_refused() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    both = message("assistant", tool_calls=[call], tool_call=call["function"])
    assert [one.id for one in tool_calls(both)] == ["1"]
    assert tool_calls(message("assistant", "a")) == []
    with pytest.raises(Invalid, match="tool_calls"):
        tool_calls(message("assistant", tool_call=call["function"]))


def called(text: str | None) -> ToolCall:
    return ToolCall(id="call_7", function=FunctionCall(name="f", arguments=text))


@pytest.mark.parametrize(
    ("text", "read"), [('{"a": [1]}', {"a": [1]}), ("", {}), (None, {}), (" \n", {}), ("null", {})]
)
def test_arguments_are_parsed_as_an_object(text: str | None, read: Json) -> None:
    assert tool_arguments(called(text)) == read


@pytest.mark.parametrize("text", ["{", "[]", '"a"', "{} {}", '{"a": NaN}', '{"a": 1e999}'])
def test_arguments_of_another_kind_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="call_7"):
        tool_arguments(called(text))


def image(url: str) -> Image:
    return Image(image_url=ImageUrl(url=url))


@pytest.mark.parametrize(
    ("url", "split"),
    [
        ("https://x/y.png", None),
        ("data:image/png;base64,AAAA", ("image/png", "AAAA")),
        ("DATA:Image/PNG;charset=x;Base64,a,b", ("image/png", "a,b")),
    ],
)
def test_data_urls_are_parsed_and_other_urls_are_not(url: str, split: tuple[str, str] | None) -> None:
    assert parse_data_url(image(url)) == split


@pytest.mark.parametrize("url", ["data:", "data:image/png,AAAA", "data:image/png;base64", "data:;base64,AAAA"])
def test_malformed_data_urls_are_refused(url: str) -> None:
    with pytest.raises(Invalid, match="data URL"):
        parse_data_url(image(url))


def test_inline_tools_have_a_schema_and_links_are_refused() -> None:
    tool = InlineTool(name="f")
    assert tool_definitions(request(tools=[tool])) == [tool]
    assert parameters_schema(tool) == {"type": "object", "properties": {}}
    assert parameters_schema(InlineTool(name="f", parameters={"type": "object"})) == {"type": "object"}
    with pytest.raises(Invalid, match="oc_1"):
        tool_definitions(request(tools=[LinkedTool(id="oc_1", source="organization")]))


def test_tools_of_a_history_are_defined_by_it_if_the_config_has_none() -> None:
    calls = [{"id": f"c{index}", "function": {"name": name, "arguments": "{}"}} for index, name in enumerate("fgf")]
    messages = [message("assistant", tool_calls=calls), message("tool", "1", tool_call_id="c0")]
    defined = tool_definitions(request(messages))
    assert [tool.name for tool in defined] == ["f", "g"]
    assert parameters_schema(defined[0]) == {"type": "object", "additionalProperties": True}
    own = [InlineTool(name="h")]
    assert tool_definitions(request(messages, tools=own)) == own
    assert tool_definitions(request([message("user", "hi")])) == []


def test_response_schemas_are_found_or_refused() -> None:
    inner = {"type": "object"}
    assert response_schema({"name": "n", "schema": inner}) == {"name": "n", "schema": inner}
    assert response_schema(inner) == {"schema": inner}
    with pytest.raises(Invalid, match="json_schema"):
        response_schema(None)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        (None, {}),
        ("", {}),
        ('{"a": ', '{"a": '),
        ('{"a": "\\ud83d"}', '{"a": "\\ud83d"}'),
        ('{"a": NaN}', '{"a": NaN}'),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ("[" * 5_000, "[" * 5_000),
    ],
)
def test_streamed_arguments_are_parsed_if_they_can_be_encoded_again(text: str | None, sent: Any) -> None:
    assert tool_input(text) == sent
    to_json(tool_input(text), inf_nan_mode="constants")
